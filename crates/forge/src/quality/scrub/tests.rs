//! Secrets in these tests are put together from parts, so that no file of the project holds one.

use serde_json::json;

use super::*;
use crate::document::{Call, Content, Conversation, Facts, Message, RecordKind, Role};

const ALL: Scrub = Scrub { emails: true, secrets: true, ip_addresses: true };

fn scrub(text: &str) -> (String, Vec<(&'static str, u64)>) {
    let mut document = Document::text("test", text);
    let scrubbed = Scrubber::new(&ALL).unwrap().scrub(&mut document);
    let Content::Text(text) = document.content else { panic!("text stays text") };
    (text, scrubbed.counts.into_iter().map(|(kind, count)| (kind.name(), count)).collect())
}

/// Letters and digits that look random and are the same each time.
fn letters(length: usize, alphabet: &str) -> String {
    let alphabet = alphabet.as_bytes();
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        alphabet[(state >> 33) as usize % alphabet.len()] as char
    };
    (0..length).map(|_| next()).collect()
}

const MIXED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const HEX: &str = "0123456789abcdef";

fn stays(text: &str) {
    assert_eq!(scrub(text), (text.to_owned(), vec![]));
}

#[test]
fn each_kind_of_key_becomes_a_placeholder_of_its_kind() {
    let mixed = |length| letters(length, MIXED);
    for (key, placeholder) in [
        (format!("AKIA{}", letters(16, UPPER)), "<AWS_KEY>"),
        (format!("ghp_{}", mixed(36)), "<GITHUB_TOKEN>"),
        (format!("github_pat_{}_{}", mixed(22), mixed(59)), "<GITHUB_TOKEN>"),
        (format!("glpat-{}", mixed(20)), "<GITLAB_TOKEN>"),
        (format!("xoxb-{}-{}", letters(12, "0123456789"), mixed(24)), "<SLACK_TOKEN>"),
        (format!("sk_live_{}", mixed(24)), "<STRIPE_KEY>"),
        (format!("SK{}", letters(32, HEX)), "<TWILIO_KEY>"),
        (format!("AIza{}", mixed(35)), "<GOOGLE_KEY>"),
        (format!("sk-proj-{}T3BlbkFJ{}", mixed(20), mixed(20)), "<OPENAI_KEY>"),
        (format!("sk-ant-api03-{}", mixed(93)), "<ANTHROPIC_KEY>"),
        (format!("hf_{}", letters(34, &MIXED[..52])), "<HUGGING_FACE_TOKEN>"),
        (format!("npm_{}", mixed(36)), "<REGISTRY_TOKEN>"),
        (format!("SG.{}.{}", mixed(22), mixed(43)), "<SENDGRID_KEY>"),
        (format!("eyJ{}.eyJ{}.{}", mixed(20), mixed(40), mixed(43)), "<JWT>"),
    ] {
        let name = placeholder.trim_matches(['<', '>']).to_lowercase().replace('_', "-");
        let (text, counts) = scrub(&format!("curl -H 'X-Key: {key}' # \"{key}\""));
        assert_eq!(text, format!("curl -H 'X-Key: {placeholder}' # \"{placeholder}\""), "{key}");
        assert_eq!(counts.iter().map(|(kind, count)| (kind.to_string(), *count)).collect::<Vec<_>>(), [(name, 2)]);
        // A part of a longer word is none.
        stays(&format!("a{key}"));
    }
}

#[test]
fn a_private_key_keeps_its_first_and_last_line_and_a_certificate_all() {
    let body = letters(200, MIXED);
    let pem = |kind: &str, body: &str| format!("-----BEGIN {kind}-----\\n{body}\\n-----END {kind}-----");
    let (text, counts) = scrub(&pem("RSA PRIVATE KEY", &body));
    assert_eq!(text, "-----BEGIN RSA PRIVATE KEY-----<PRIVATE_KEY>-----END RSA PRIVATE KEY-----");
    assert_eq!(counts, [("private-key", 1)]);
    stays(&pem("CERTIFICATE", &body));
    stays(&pem("PRIVATE KEY", "..."));
}

#[test]
fn a_password_in_a_url_goes_and_what_stands_for_one_stays() {
    assert_eq!(
        scrub("redis://cache:h7Gq2z@10.0.0.5:6379/0 and postgres://u:Tr0ub4dor@db.local/x").0,
        "redis://cache:<PASSWORD>@10.0.0.5:6379/0 and postgres://u:<PASSWORD>@db.local/x"
    );
    stays(
        "postgres://user:password@db.corp.io/db, https://me@corp.io/, http://{user}:{pass}@host, amqp://u:%s@h, https://a.b:8080/@me, ftp://u:***@h",
    );
    stays("new URL('https://abc:xyz9@example.com')");
    stays("git clone ssh://git@github.com/a/b && git clone git@github.com:a/b");
}

#[test]
fn what_is_assigned_to_a_telling_name_goes_if_it_looks_random() {
    let key = letters(32, MIXED);
    let hex = letters(32, HEX);
    for text in [
        format!("api_key = \"{key}\""),
        format!("{{\"client_secret\": \"{key}\"}}"),
        format!("{{\\\"apiKey\\\": \\\"{key}\\\"}}"),
        format!("export SERVICE_API_KEY={key}\n"),
        format!("https://a.b/c?api_key={key}&d=1"),
        format!("Authorization: Bearer {key}"),
        format!("auth_token: '{hex}'"),
    ] {
        let (clean, counts) = scrub(&text);
        assert_eq!(counts, [("secret", 1)], "{text}");
        assert!(clean.contains("<SECRET>") && !clean.contains(&key) && !clean.contains(&hex), "{clean}");
    }
    stays("api_key = \"YOUR_API_KEY_GOES_HERE_123\"");
    stays("api_key = os.environ.get('SERVICE_API_KEY_V2')");
    stays("password: str = Field(default_factory=make_password_v2_1)");
    stays("secret = \"gpt-4-turbo-2024-04-09-preview\"");
    stays("next_page_token = 'CAESBgoEU0hBMTIzNDU2Nzg5MGFi'");
}

#[test]
fn a_secret_under_a_telling_key_of_a_record_or_a_call_is_known_by_the_key() {
    let key = letters(32, MIXED);
    let fields = json!({"id": key, "example": {"Client_Secret": key, "secret_name": "the-name-of-it"}});
    let Some(fields) = fields.as_object().cloned() else { panic!("an object") };
    let mut record =
        Document { content: Content::Record { kind: RecordKind::Api, fields }, ..Document::text("test", "") };
    let scrubber = Scrubber::new(&ALL).unwrap();
    assert_eq!(scrubber.scrub(&mut record).counts, [(Kind::Secret, 1)].into());
    let Content::Record { fields, .. } = record.content else { panic!("a record stays one") };
    assert_eq!(fields["example"]["Client_Secret"], "<SECRET>");
    assert_eq!((&fields["id"], &fields["example"]["secret_name"]), (&json!(key), &json!("the-name-of-it")));
}

#[test]
fn uuids_hashes_and_sids_are_names_and_stay() {
    let hex = |length| letters(length, HEX);
    stays(&format!("commit {} of {}", hex(40), hex(64)));
    stays("secret_id = \"3f2504e0-4f89-41d3-9a0c-0305e82c3301\", id 3f2504e0-4f89-41d3-9a0c-0305e82c3301");
    stays(&format!(
        "AC{} SM{} ACXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX SKaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        hex(32),
        hex(32)
    ));
    stays("AKIAIOSFODNN7EXAMPLE, sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, xoxb-your-bot-token-goes-right-here");
    stays("task-force-of-the-disk-management-group-with-a-long-name, sk-learn-contrib-and-some-more-words-of-it");
}

#[test]
fn an_address_is_the_same_everywhere_in_a_conversation() {
    let say = |role, content: &str| Message {
        role,
        content: content.to_owned(),
        calls: Vec::new(),
        name: None,
        call_id: None,
        failed: false,
    };
    let mut call = say(Role::Assistant, "");
    call.calls.push(Call {
        id: None,
        name: "send".to_owned(),
        arguments: json!({"to": ["eve@mail.dev", "Ann.Lee@corp.io"]}),
    });
    let conversation = Conversation {
        messages: vec![say(Role::User, "I am ann.lee@corp.io, from 81.2.69.142."), call],
        ..Conversation::default()
    };
    let mut document =
        Document { origin: "test".to_owned(), facts: Facts::default(), content: Content::Conversation(conversation) };
    let scrubbed = Scrubber::new(&ALL).unwrap().scrub(&mut document);
    assert_eq!(scrubbed.counts, [(Kind::Email, 3), (Kind::IpAddress, 1)].into());
    let Content::Conversation(conversation) = document.content else { panic!("a conversation stays one") };
    assert_eq!(conversation.messages[0].content, "I am email@example.com, from 192.0.2.1.");
    assert_eq!(conversation.messages[1].calls[0].arguments, json!({"to": ["email2@example.com", "email@example.com"]}));
}

#[test]
fn only_addresses_of_people_are_replaced() {
    assert_eq!(scrub("<me+list@sub.dom.co.uk>, A_B@X.COM.Then").0, "<email@example.com>, email2@example.com.Then");
    stays("user@example.com, a@b.example.org, x@host.test, me@localhost, logo@2x.png, @scope/pkg, lodash@4.17.21");
    stays("@app.route('/'), y = weights@values.transpose(0), a@b.T, foo@bar");
}

#[test]
fn only_public_addresses_that_are_no_versions_are_replaced() {
    assert_eq!(scrub("81.2.69.142:443, (93.184.216.34)").0, "192.0.2.1:443, (192.0.2.2)");
    assert_eq!(scrub("from 81.2.69.142.").0, "from 192.0.2.1.");
    stays("10.0.0.1 172.31.255.255 192.168.1.1 127.0.0.1 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.0 8.8.8.8 1.1.1.1");
    stays("version 12.4.1.3, v12.4.1.3, pkg-12.4.1.3, pkg==12.4.1.3, 1.3.6.1.4.1.311, 12.4.1.300, 01.02.03.04, 12.4.1");
}

#[test]
fn what_is_not_asked_for_stays() {
    let text = format!("me@corp.io 81.2.69.142 AKIA{}", letters(16, UPPER));
    let off = Scrub { emails: false, secrets: false, ip_addresses: false };
    let mut document = Document::text("test", text.clone());
    assert!(Scrubber::new(&off).unwrap().scrub(&mut document).is_empty());
    assert_eq!(document, Document::text("test", text));
}

#[test]
fn a_pem_header_without_an_end_and_a_line_of_at_signs_cost_no_more_than_their_length() {
    stays(&"-----BEGIN PRIVATE KEY-----".repeat(2_000));
    stays(&"@".repeat(200_000));
    stays(&"a".repeat(200_000));
    stays(&"1.1.1.1.".repeat(50_000));
}

proptest::proptest! {
    #[test]
    fn scrubbing_again_changes_nothing(
        parts in proptest::collection::vec(
            "\\PC{0,12}|[a-z]{1,4}@[a-z]{1,5}\\.(com|io)|[0-9]{1,3}(\\.[0-9]{1,3}){3}|(api_key|password|secret)[=:] ?[\"']?[a-zA-Z0-9]{16,40}[\"']?|://u:[a-z0-9]{3,9}@h|AKIA[A-Z2-7]{16}|bearer [a-z0-9]{24}|[\"' ,;:/@=]",
            0..12,
        ),
    ) {
        let (once, _) = scrub(&parts.concat());
        assert_eq!(scrub(&once), (once.clone(), vec![]));
    }
}
