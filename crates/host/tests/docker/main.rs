//! A real container engine (`DOCKER_HOST`) with a real image (`TEST_IMAGE_BUSYBOX`), and a real registry that wants a login
//! (`REGISTRY_ADDRESS`, `REGISTRY_USER`, `REGISTRY_PASSWORD`). Without them each test says so.

mod containers;
mod limits;
mod line;
mod logs;
mod network;
mod outages;
mod pulls;
mod registry;
mod rig;
