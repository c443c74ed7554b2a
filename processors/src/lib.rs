//! The processors of testrig, RunLLMTest first
