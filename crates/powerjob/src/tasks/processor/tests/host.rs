//! The host with real processors, a store, and a tracker that writes down what it is told.
