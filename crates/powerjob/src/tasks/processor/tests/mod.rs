mod durable;
mod host;
mod machine;
mod property;
mod rig;
