mod durable;
mod ends;
mod host;
mod machine;
mod property;
mod rig;
