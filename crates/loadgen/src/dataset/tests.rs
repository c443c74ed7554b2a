use super::*;

fn load(text: impl AsRef<[u8]>) -> Result<Dataset, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("questions.jsonl");
    std::fs::write(&path, text).expect("can write");
    Dataset::load(&path).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

#[test]
fn every_accepted_form_of_an_item_is_read() {
    let text = concat!(
        "{\"id\": 7, \"prompt\": \"一\", \"max_tokens\": 5, \"reference\": \"二\"}\r\n",
        "\n",
        "{\"messages\": [{\"role\": \"system\", \"content\": \"be short\"}, {\"role\": \"user\", \"content\": \"hi\"}], \"answer\": 42}\n",
        "{\"input\": \"vector of this\", \"source\": \"ignored\"}\n",
        "{\"id\": \"sg\", \"conversations\": [{\"from\": \"human\", \"value\": \"q\"}, {\"from\": \"gpt\", \"value\": \"a\"}]}",
    );
    let set = load(text).expect("all lines are items");
    assert_eq!((set.name(), set.len()), ("questions", 4));
    let [first, second, third, fourth] = set.items() else { panic!("four items") };
    let expected = Item {
        id: "7".to_owned(),
        input: Input::Text("一".to_owned()),
        max_tokens: Some(5),
        reference: Some("二".to_owned()),
    };
    assert_eq!(first, &expected);
    // Without an id of its own an item has its line number; the blank line counts.
    assert_eq!((second.id.as_str(), second.reference.as_deref()), ("3", Some("42")));
    assert_eq!(second.input.text(), "be short\nhi");
    assert_eq!(third.input.messages(), [json!({"role": "user", "content": "vector of this"})]);
    assert_eq!((fourth.id.as_str(), fourth.reference.as_deref()), ("sg", Some("a")));
    assert_eq!(fourth.input.messages(), [json!({"role": "user", "content": "q"})]);
}

#[test]
fn a_json_array_and_a_byte_order_mark_are_accepted() {
    let set = load("\u{feff}[\n {\"prompt\": \"a\"},\n {\"prompt\": \"b\"}\n]\n").expect("an array of items");
    assert_eq!(set.items()[1].id, "2");
}

#[test]
fn items_are_asked_in_order_and_again_from_the_start() {
    let set = load("{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n").expect("two items");
    let ids: Vec<&str> = (0..5).map(|n| set.item(n).id.as_str()).collect();
    assert_eq!(ids, ["1", "2", "1", "2", "1"]);
}

#[test]
fn a_bad_line_is_named_with_what_was_found_and_what_is_accepted() {
    let good = "{\"prompt\": \"a\"}\n";
    let cases = [
        ("{\"prompt\": \"a\"", "line 2 is not JSON"),
        ("\"text\"", "line 2 is a text; accepted is an object"),
        ("{\"question\": \"a\", \"x\": 1}", "line 2 has only [question, x]; accepted"),
        ("{\"prompt\": 5}", "line 2 has a \"prompt\" that is a number"),
        ("{\"prompt\": \"\"}", "line 2 has an empty \"prompt\""),
        ("{\"messages\": []}", "line 2 has \"messages\" that are no list"),
        ("{\"messages\": [{\"content\": \"a\"}]}", "line 2 has \"messages\" that are no list"),
        (
            "{\"conversations\": [{\"from\": \"gpt\", \"value\": \"a\"}]}",
            "line 2 has \"conversations\" without a first turn",
        ),
        ("{\"prompt\": \"a\", \"max_tokens\": 0}", "line 2 has \"max_tokens\": 0; accepted is a whole number from 1"),
        ("{\"prompt\": \"a\", \"id\": []}", "line 2 has an \"id\" that is a list"),
        ("{\"prompt\": \"a\", \"answer\": {}}", "line 2 has a reference that is an object"),
    ];
    for (line, expected) in cases {
        let error = load(format!("{good}{line}\n")).expect_err("a bad line");
        assert!(error.starts_with("dataset `questions.jsonl` ") && error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn a_file_that_is_no_dataset_says_so() {
    let empty = load("\n \n").expect_err("no items");
    assert!(empty.starts_with("dataset `questions.jsonl` has no items; accepted is"), "{empty}");
    let binary = load(b"{\"prompt\": \"a\"}\n\xff\xfe").expect_err("not UTF-8");
    assert_eq!(binary, "dataset `questions.jsonl` line 2 is not UTF-8");
    let missing = Dataset::load(Path::new("/nowhere/questions.jsonl")).expect_err("no file");
    assert_eq!(missing.to_string(), "failed to read dataset `/nowhere/questions.jsonl`");
}

#[test]
fn the_built_in_prompts_are_english_and_chinese() {
    let set = Dataset::builtin();
    let chinese = set.items().iter().filter(|item| !item.input.text().is_ascii()).count();
    assert_eq!((set.name(), set.len(), chinese), ("builtin", 16, 8));
}
