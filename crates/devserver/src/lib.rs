//! The stand-in PowerJob server: in memory, for the demo and fast tests
