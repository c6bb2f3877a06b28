//! File systems on a served image: through a loop device and, for EROFS, without one.
