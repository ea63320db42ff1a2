//! The boundary between the BEAM and `barrel_quic`.
