//! The processors of a worker by name, and what becomes of a name that it does not serve.

use std::{collections::BTreeMap, sync::Arc};

use crate::{core::Dispatch, processor::Processor};

/// Names and their processors.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    named: BTreeMap<String, Arc<dyn Processor>>,
    /// Names that are known and not served, with the reason.
    refused: BTreeMap<String, String>,
    fallback: Option<Arc<dyn Processor>>,
}

impl Registry {
    pub(crate) fn insert(&mut self, name: String, processor: Arc<dyn Processor>) {
        self.named.insert(name, processor);
    }

    pub(crate) fn refuse(&mut self, name: String, why: String) {
        self.refused.insert(name, why);
    }

    pub(crate) fn set_fallback(&mut self, processor: Arc<dyn Processor>) {
        self.fallback = Some(processor);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.named.keys().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.named.is_empty() && self.fallback.is_none()
    }

    /// The processor for a dispatch, or the result text that says why there is none.
    pub(crate) fn find(&self, dispatch: &Dispatch) -> Result<Arc<dyn Processor>, String> {
        self.find_named(&dispatch.processor_info)
    }

    /// The processor of this name, or the result text that says why there is none.
    pub(crate) fn find_named(&self, processor_info: &str) -> Result<Arc<dyn Processor>, String> {
        let asked = processor_info.trim();
        let refused = self.refused.get(asked);
        let fallback = self.fallback.as_ref().filter(|_| refused.is_none());
        if let Some(found) = self.named.get(asked).or_else(|| self.handler(asked)).or(fallback) {
            return Ok(found.clone());
        }
        if let Some(why) = refused {
            return Err(why.clone());
        }
        if asked.is_empty() {
            return Err(format!("the job names no processor; set its processorInfo to one of {}", self.served()));
        }
        let hint = self.nearest(asked).map_or_else(|| ".".to_owned(), |name| format!(", did you mean `{name}`?"));
        Err(format!(
            "processor `{asked}` is not served by this worker{hint} It serves {}; correct the job's processorInfo, or enable \
             the processor in this worker's configuration, or send the job to another worker (tag)",
            self.served()
        ))
    }

    /// `bean#method` may be written with the class in the bean's place, as a Java worker's `@PowerJobHandler`.
    fn handler(&self, asked: &str) -> Option<&Arc<dyn Processor>> {
        let (class, method) = asked.split_once('#')?;
        let simple = class.rsplit(['.', '$']).next()?;
        let first = simple.chars().next()?;
        let bean = format!("{}{}", first.to_lowercase(), &simple[first.len_utf8()..]);
        self.named.get(&format!("{bean}#{method}"))
    }

    fn served(&self) -> String {
        if self.named.is_empty() {
            return "nothing".to_owned();
        }
        self.named.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    /// A name that a typing mistake, another case or a Java package in front could have meant.
    fn nearest(&self, asked: &str) -> Option<&str> {
        let last = asked.rsplit('.').next().unwrap_or(asked).to_lowercase();
        let score = |name: &str| {
            let name = name.to_lowercase();
            strsim::jaro_winkler(&name, &last).max(strsim::jaro_winkler(&name, last.trim_end_matches("processor")))
        };
        let mut best: Vec<(f64, &str)> = self.named.keys().map(|name| (score(name), name.as_str())).collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        best.first().filter(|(score, _)| *score > 0.8).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{ProcessResult, TaskContext};

    struct Nothing;

    #[async_trait]
    impl Processor for Nothing {
        async fn process(&self, _: TaskContext) -> ProcessResult {
            ProcessResult::success("")
        }
    }

    fn dispatch(processor_info: &str) -> Dispatch {
        let text = format!(r#"{{"jobId":1,"instanceId":2,"processorInfo":"{processor_info}"}}"#);
        crate::wire::ServerScheduleJobReq::parse(text.as_bytes()).expect("valid").into_dispatch()
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for name in ["RunLLMTest", "CollectLogs"] {
            registry.insert(name.to_owned(), Arc::new(Nothing));
        }
        registry
    }

    #[test]
    fn an_unknown_processor_is_answered_with_what_is_served_and_the_nearest_name() {
        let why = registry().find(&dispatch("com.example.RunLlmTestProcessor")).err().expect("unknown");
        assert!(why.contains("`com.example.RunLlmTestProcessor` is not served"), "{why}");
        assert!(why.contains("did you mean `RunLLMTest`?"), "{why}");
        assert!(why.contains("It serves `CollectLogs`, `RunLLMTest`"), "{why}");
        let why = registry().find(&dispatch("xyz")).err().expect("unknown");
        assert!(why.contains("is not served by this worker. It serves"), "{why}");
        assert!(registry().find(&dispatch(" RunLLMTest ")).is_ok());
    }

    #[test]
    fn a_handler_is_found_by_its_bean_and_by_its_class() {
        let mut registry = registry();
        registry.insert("llmPython#run".to_owned(), Arc::new(Nothing));
        for name in ["llmPython#run", "com.example.LlmPython#run", "LlmPython#run"] {
            assert!(registry.find(&dispatch(name)).is_ok(), "{name}");
        }
        for name in ["com.example.LlmPython", "com.example.LlmPython#other", "#", "#run", "a.#run"] {
            assert!(registry.find(&dispatch(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_refused_name_is_told_why_and_is_not_among_those_that_are_served() {
        let mut registry = registry();
        registry.refuse("a.Shell".to_owned(), "Shell is off: set x".to_owned());
        registry.set_fallback(Arc::new(Nothing));
        assert_eq!(registry.find(&dispatch("a.Shell")).err().expect("refused"), "Shell is off: set x");
        assert!(!registry.names().contains(&"a.Shell".to_owned()));
    }

    #[test]
    fn a_fallback_takes_every_name() {
        let mut registry = registry();
        registry.set_fallback(Arc::new(Nothing));
        assert!(registry.find(&dispatch("anything")).is_ok());
    }
}
