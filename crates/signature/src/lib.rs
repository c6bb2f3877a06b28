//! Detached PKCS#7 (CMS) signatures and the X.509 certificates that vouch for them. No I/O and no
//! clock: whoever calls brings the bytes and the time.
