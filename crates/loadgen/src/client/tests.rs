use super::*;
use crate::dataset::Input;

fn plan() -> LoadPlan {
    LoadPlan::new("http://127.0.0.1:8000", "m")
}

fn item(input: Input) -> Item {
    Item { id: "1".to_owned(), input, max_tokens: None, reference: None }
}

fn body_of(plan: &LoadPlan, item: &Item) -> Value {
    serde_json::from_slice(&body(plan, item)).expect("always JSON")
}

#[test]
fn the_version_is_added_to_the_address_unless_it_is_there() {
    for base in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"] {
        assert_eq!(endpoint(base, "embeddings").expect("an address").as_str(), "http://h:1/v1/embeddings", "{base}");
    }
    assert_eq!(endpoint("https://h/api", "models").expect("an address").as_str(), "https://h/api/v1/models");
}

#[test]
fn a_streamed_chat_asks_for_its_usage() {
    let mut plan = plan();
    plan.max_tokens = Some(9);
    plan.temperature = Some(0.0);
    let expected = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "temperature": 0.0,
        "stream": true, "stream_options": {"include_usage": true},
    });
    assert_eq!(body_of(&plan, &item(Input::Text("hi".to_owned()))), expected);
}

#[test]
fn an_item_overrides_the_plan_and_extra_fields_override_both() {
    let mut plan = plan();
    plan.scenario = Scenario::Completion;
    plan.streaming = false;
    plan.max_tokens = Some(9);
    plan.extra = json!({"ignore_eos": true, "model": "other"}).as_object().expect("an object").clone();
    let messages =
        Input::Messages(vec![json!({"role": "system", "content": "a"}), json!({"role": "user", "content": "b"})]);
    let item = Item { max_tokens: Some(3), ..item(messages) };
    assert_eq!(
        body_of(&plan, &item),
        json!({"model": "other", "prompt": "a\nb", "max_tokens": 3, "stream": false, "ignore_eos": true})
    );
}

#[test]
fn an_embedding_carries_nothing_that_is_for_text() {
    let mut plan = plan();
    plan.scenario = Scenario::Embedding;
    plan.max_tokens = Some(9);
    assert_eq!(body_of(&plan, &item(Input::Text("hi".to_owned()))), json!({"model": "m", "input": "hi"}));
}

#[test]
fn content_reasoning_and_tool_calls_are_tokens_and_a_role_is_not() {
    let delta = |delta: Value| Observation::default().absorb(&json!({"choices": [{"index": 0, "delta": delta}]}));
    assert!(delta(json!({"content": "a"})));
    assert!(delta(json!({"reasoning_content": "hm"})));
    assert!(delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]})));
    assert!(!delta(json!({"role": "assistant", "content": ""})));
    assert!(!delta(json!({"content": null, "tool_calls": []})));
    assert!(!Observation::default().absorb(&json!({"choices": [], "usage": {"prompt_tokens": 1}})));
    assert!(Observation::default().absorb(&json!({"choices": [{"index": 0, "text": "a"}]})));
}

#[test]
fn errors_in_a_good_answer_are_seen_in_every_shape() {
    let text = |value: Value| in_band(&value);
    assert_eq!(text(json!({"error": {"message": "boom", "code": 500}})), Some("boom".to_owned()));
    assert_eq!(text(json!({"error": "boom"})), Some("boom".to_owned()));
    assert_eq!(text(json!({"object": "error", "message": "boom"})), Some("boom".to_owned()));
    assert_eq!(text(json!({"error": {"code": 5}})), Some("{\"code\":5}".to_owned()));
    assert_eq!(text(json!({"error": null, "choices": []})), None);
}

fn in_band(value: &Value) -> Option<String> {
    let failure = answer::in_band_error(value)?;
    assert_eq!(failure.class, ErrorClass::InBandError);
    Some(failure.text.replace("the service answered 200 and then: ", ""))
}

#[test]
fn headers_that_cannot_be_sent_are_a_mistake_of_the_plan() {
    let mut plan = plan();
    plan.headers = vec![("bad name".to_owned(), "x".to_owned())];
    assert!(Client::build(&plan).is_err());
}
