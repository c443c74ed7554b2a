//! Real processes under the real shim.

mod adoption;
mod nasty;
mod rig;
mod script;
mod start;
mod stop;
mod systemd;
