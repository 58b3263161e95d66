//! RFC 5228.

use super::{Case, check, check_tests};

#[test]
fn actions_take_the_place_of_the_implicit_keep() {
    check(&[
        ("", "keep"),
        ("keep;", "keep"),
        ("stop;", "keep"),
        ("discard;", "discard"),
        ("discard; keep;", "discard"),
        ("keep; discard;", "keep"),
        ("fileinto \"A\";", "file A"),
        ("fileinto \"A\"; keep;", "file A, keep"),
        ("fileinto \"A\"; fileinto \"A\";", "file A"),
        ("fileinto \"A\"; discard;", "file A"),
        ("fileinto \"INBOX\";", "keep"),
        ("redirect \"b@example.net\";", "redirect b@example.net"),
        (
            "redirect \"b@example.net\"; keep;",
            "redirect b@example.net, keep",
        ),
        (
            "redirect \"b@EXAMPLE.net\"; redirect \"b@example.net\";",
            "redirect b@example.net",
        ),
        ("stop; discard;", "keep"),
        ("if true { stop; } discard;", "keep"),
        ("if false { stop; } discard;", "discard"),
    ]);
}

#[test]
fn branches_are_taken_in_their_order() {
    check(&[
        (
            "if true { fileinto \"A\"; } else { fileinto \"B\"; }",
            "file A",
        ),
        (
            "if false { fileinto \"A\"; } else { fileinto \"B\"; }",
            "file B",
        ),
        (
            "if false { fileinto \"A\"; } elsif true { fileinto \"B\"; } elsif true { discard; }",
            "file B",
        ),
        (
            "if false { discard; } elsif false { discard; } else { fileinto \"C\"; }",
            "file C",
        ),
        ("if true { } else { discard; }", "keep"),
        (
            "if true { if false { discard; } else { fileinto \"D\"; } }",
            "file D",
        ),
    ]);
    check_tests(&[
        ("true", true),
        ("false", false),
        ("not false", true),
        ("not not false", false),
        ("allof (true, true)", true),
        ("allof (true, false, true)", false),
        ("anyof (false, true)", true),
        ("anyof (false, not true)", false),
        ("allof true", true),
        ("anyof (false, allof (true, not false))", true),
    ]);
}

#[test]
fn header_fields_are_compared() {
    check_tests(&[
        ("header \"subject\" \"Caf\u{e9} [list] hello world\"", true),
        ("header :is \"subject\" \"hello\"", false),
        ("header :contains \"subject\" \"HELLO\"", true),
        (
            "header :contains :comparator \"i;octet\" \"subject\" \"HELLO\"",
            false,
        ),
        (
            "header :contains [\"x\", \"Subject\"] [\"nothing\", \"list\"]",
            true,
        ),
        ("header :contains \"subject\" \"\"", true),
        ("header :contains \"x-none\" \"\"", false),
        ("header :is \"x-empty\" \"\"", true),
        ("header :is \"x-count\" \"9\"", true),
        ("header :matches \"subject\" \"*[*]*\"", true),
        ("header :matches \"subject\" \"caf?*\"", true),
        ("header :matches \"subject\" \"*\\\\[x*\"", false),
        (
            "header :matches :comparator \"i;octet\" \"subject\" \"caf*\"",
            false,
        ),
        (
            "header :is \"from\" \"\\\"Ann, Smith\\\" <Ann.Smith@Example.com>\"",
            true,
        ),
        ("header :is \" subject\" \"x\"", false),
        ("exists \"subject\"", true),
        ("exists [\"subject\", \"X-COUNT\", \"x-empty\"]", true),
        ("exists [\"subject\", \"x-none\"]", false),
    ]);
}

#[test]
fn addresses_are_compared_by_their_parts() {
    check_tests(&[
        ("address \"from\" \"ann.smith@example.com\"", true),
        ("address :is :all \"from\" \"Ann\"", false),
        ("address :localpart \"from\" \"ANN.smith\"", true),
        ("address :domain \"from\" \"example.com\"", true),
        (
            "address :domain [\"from\", \"to\"] [\"sub.example.net\"]",
            true,
        ),
        ("address :domain :contains \"to\" \"sub.\"", true),
        ("address :matches :domain \"to\" \"*.net\"", true),
        ("address :contains \"cc\" \"\"", false),
        ("address :contains \"x-none\" \"\"", false),
        (
            "address :localpart :comparator \"i;octet\" \"from\" \"ann.smith\"",
            false,
        ),
    ]);
}

#[test]
fn the_envelope_is_compared() {
    check_tests(&[
        ("envelope \"from\" \"ann@example.com\"", true),
        ("envelope :domain \"FROM\" \"example.com\"", true),
        ("envelope :localpart \"to\" \"user+lists\"", true),
        (
            "envelope [\"from\", \"to\"] \"user+lists@example.org\"",
            true,
        ),
        ("envelope \"from\" \"\"", false),
    ]);
    let case = Case {
        sender: postrider_smtp::ReversePath::Null,
        ..Case::default()
    };
    for part in [":all", ":localpart", ":domain", ":user", ":detail"] {
        assert!(
            case.holds(&format!("envelope {part} \"from\" \"\"")),
            "{part}"
        );
    }
    assert!(!case.holds("envelope :contains \"from\" \"@\""));
}

#[test]
fn sizes_are_compared() {
    let size = super::MESSAGE.len();
    for (limit, over, under) in [
        (size - 1, true, false),
        (size, false, false),
        (size + 1, false, true),
    ] {
        let case = Case::default();
        assert_eq!(case.holds(&format!("size :over {limit}")), over);
        assert_eq!(case.holds(&format!("size :under {limit}")), under);
    }
    check_tests(&[("size :under 1K", true), ("size :over 1G", false)]);
}

#[test]
fn encoded_characters_are_decoded_where_they_are_required() {
    check_tests(&[
        ("header :contains \"subject\" \"[${hex:6c 69}st]\"", true),
        ("header :contains \"subject\" \"Caf${unicode:e9}\"", true),
    ]);
    let case = Case {
        message: "Subject: ${hex:6c}\r\n\r\n".to_owned(),
        ..Case::default()
    };
    let script = "if header \"subject\" \"${hex:6c}\" { discard; }";
    assert_eq!(case.outcome(script), "discard");
}
