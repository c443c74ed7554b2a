//! What the machine offers: containers, processes, system metrics, accelerators
