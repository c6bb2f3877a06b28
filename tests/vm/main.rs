//! Stock kernels under QEMU.
