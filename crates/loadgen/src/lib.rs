//! LLM load generator, SSE reader, datasets, scoring, stand-in LLM service
