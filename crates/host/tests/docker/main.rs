//! A real container engine (`DOCKER_HOST`) with a real image (`TEST_IMAGE_BUSYBOX`). Without them each test says so.

mod containers;
mod logs;
mod network;
mod outages;
mod rig;
