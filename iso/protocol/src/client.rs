//! The host end of the control API (to be written).
