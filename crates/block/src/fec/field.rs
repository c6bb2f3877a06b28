//! GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d), whose generator is alpha = 2.

const POLYNOMIAL: u16 = 0x11d;

/// The order of alpha: alpha^255 = 1.
pub(super) const ORDER: u8 = 255;

struct Tables {
    /// alpha^n, twice over, so that the sum of two logarithms needs no reduction.
    power: [u8; 512],
    /// The n with alpha^n = x; nothing for 0.
    log: [u8; 256],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = Tables { power: [0; 512], log: [0; 256] };
    let mut value = 1_u16;
    let mut n = 0_u8;
    while n < ORDER {
        // Below 256: reduced in the step before.
        let [byte, _] = value.to_le_bytes();
        tables.power[n as usize] = byte;
        tables.power[n as usize + ORDER as usize] = byte;
        tables.log[byte as usize] = n;
        value <<= 1;
        if value & 0x100 != 0 {
            value ^= POLYNOMIAL;
        }
        n += 1;
    }
    tables
}

/// alpha to the power of `n`.
pub(super) fn power(n: u8) -> u8 {
    TABLES.power[usize::from(n)]
}

/// alpha to the power of -`n`.
pub(super) fn inverse_power(n: u8) -> u8 {
    power(ORDER - n)
}

/// The n below 255 with alpha^n = `x`, which is not 0.
pub(super) fn log(x: u8) -> u8 {
    debug_assert_ne!(x, 0, "no power of alpha is 0");
    TABLES.log[usize::from(x)]
}

/// The product. (The sum is `^`.)
pub(super) fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    let log = |x: u8| usize::from(TABLES.log[usize::from(x)]);
    TABLES.power[log(a) + log(b)]
}

/// `a` divided by `b`, which is not 0.
pub(super) fn divide(a: u8, b: u8) -> u8 {
    debug_assert_ne!(b, 0, "there is no inverse of 0");
    multiply(a, inverse_power(log(b)))
}

/// The value at `x` of a polynomial whose lowest coefficient comes first.
pub(super) fn evaluate(coefficients: &[u8], x: u8) -> u8 {
    coefficients.iter().rev().fold(0, |value, coefficient| multiply(value, x) ^ coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition: shift, add, reduce.
    fn slow(a: u8, b: u8) -> u8 {
        let mut product = 0_u16;
        for bit in 0..8 {
            if b >> bit & 1 != 0 {
                product ^= u16::from(a) << bit;
            }
        }
        for bit in (8..16).rev() {
            if product >> bit & 1 != 0 {
                product ^= POLYNOMIAL << (bit - 8);
            }
        }
        u8::try_from(product).unwrap()
    }

    #[test]
    fn it_is_the_field() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), slow(a, b), "{a} * {b}");
                if b != 0 {
                    assert_eq!(divide(multiply(a, b), b), a);
                }
            }
        }
        assert_eq!((power(0), power(1), power(8), power(255)), (1, 2, 0x1d, 1));
        assert_eq!(evaluate(&[7, 0, 1], 2), 7 ^ 4);
    }
}
