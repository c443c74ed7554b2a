//! Real processes under the real shim.

mod adoption;
mod rig;
mod script;
mod start;
mod stop;
