//! One test for each extension.

use super::{Case, check, check_tests};

#[test]
fn copy_leaves_the_implicit_keep() {
    check(&[
        ("fileinto :copy \"A\";", "file A, keep"),
        (
            "redirect :copy \"b@example.net\";",
            "redirect b@example.net, keep",
        ),
        ("fileinto :copy \"A\"; discard;", "file A"),
        ("fileinto :copy \"A\"; fileinto \"B\";", "file A, file B"),
    ]);
}

#[test]
fn mailboxes_are_made_and_looked_for() {
    check(&[
        ("fileinto :create \"A/B\";", "file A/B+"),
        ("fileinto \"A\"; fileinto :create \"A\";", "file A+"),
    ]);
    check_tests(&[
        ("mailboxexists \"Archive\"", true),
        ("mailboxexists \"inbox\"", true),
        ("mailboxexists [\"Archive\", \"None\"]", false),
        ("mailboxexists \"\"", false),
    ]);
}

#[test]
fn special_uses_name_mailboxes() {
    check(&[
        ("fileinto :specialuse \"\\\\junk\" \"Other\";", "file Spam"),
        (
            "fileinto :specialuse \"\\\\Sent\" \"Other\";",
            "file Other\\Sent",
        ),
        (
            "fileinto :create :specialuse \"\\\\Sent\" \"Other\";",
            "file Other+\\Sent",
        ),
    ]);
    check_tests(&[
        ("specialuse_exists \"\\\\Junk\"", true),
        ("specialuse_exists [\"\\\\Junk\", \"\\\\Trash\"]", true),
        ("specialuse_exists [\"\\\\Junk\", \"\\\\Sent\"]", false),
        ("specialuse_exists \"Spam\" \"\\\\Junk\"", true),
        ("specialuse_exists \"Bin\" \"\\\\Junk\"", false),
    ]);
}

#[test]
fn flags_go_with_what_is_kept_and_filed() {
    check(&[
        ("setflag \"\\\\Seen\";", "keep [\\Seen]"),
        (
            "addflag \"a b\"; addflag [\"\\\\flagged\", \"A\"];",
            "keep [a b \\Flagged]",
        ),
        (
            "setflag \"a b c\"; removeflag \"B\"; fileinto \"A\";",
            "file A [a c]",
        ),
        (
            "fileinto \"A\"; setflag \"\\\\Seen\"; keep;",
            "file A, keep [\\Seen]",
        ),
        (
            "setflag \"a\"; fileinto :flags [\"b\", \"c d\"] \"A\";",
            "file A [b c d]",
        ),
        ("setflag \"a\"; keep :flags \"\";", "keep"),
        ("keep :flags \"a\"; keep :flags \"b\";", "keep [a b]"),
        ("setflag \"a\"; setflag \"\";", "keep"),
        ("setflag \"\\\\Recent (x\";", "keep"),
        (
            "setflag \"v\" \"a b\"; addflag \"V\" \"c\"; keep :flags \"${v}\";",
            "keep [a b c]",
        ),
        (
            "set \"v\" \"a b\"; removeflag \"v\" \"a\"; keep :flags \"${v}\";",
            "keep [b]",
        ),
    ]);
    check(&[
        ("addflag \"a b\"; if hasflag \"B\" { discard; }", "discard"),
        (
            "addflag \"a\"; if hasflag [\"x\", \"y a\"] { discard; }",
            "discard",
        ),
        ("addflag \"a\"; if hasflag \"b\" { discard; }", "keep [a]"),
        (
            "addflag \"abc\"; if hasflag :contains \"B\" { discard; }",
            "discard",
        ),
        (
            "addflag \"abc\"; if hasflag :matches \"a*\" { discard; }",
            "discard",
        ),
        (
            "addflag \"a b\"; if hasflag :count \"eq\" \"2\" { discard; }",
            "discard",
        ),
        (
            "setflag \"v\" \"a\"; if hasflag \"v\" \"a\" { discard; }",
            "discard",
        ),
        (
            "setflag \"v\" \"a\"; if hasflag [\"u\", \"v\"] \"a\" { discard; }",
            "discard",
        ),
        ("setflag \"v\" \"a\"; if hasflag \"a\" { discard; }", "keep"),
    ]);
}

#[test]
fn a_refusal_ends_the_script() {
    check(&[
        ("reject \"no\"; fileinto \"A\";", "reject \"no\""),
        ("ereject \"no\";", "ereject \"no\""),
        (
            "reject text:\nline\n..dot\n.\n;",
            "reject \"line\\r\\n.dot\\r\\n\"",
        ),
        ("addflag \"a\"; reject \"\";", "reject \"\""),
        ("fileinto \"A\"; reject \"no\";", "keep, fault script 2:15"),
        ("keep; reject \"no\";", "keep, fault script 2:7"),
        (
            "redirect :copy \"b@example.net\"; ereject \"no\";",
            "keep, fault script 2:33",
        ),
    ]);
    let long = format!("reject \"{}\";", "\u{e9}".repeat(3000));
    assert_eq!(
        Case::default().outcome(&long).len(),
        "reject \"\"".len() + 2048
    );
}

#[test]
fn numbers_and_counts_are_compared() {
    check_tests(&[
        (
            "header :value \"gt\" :comparator \"i;ascii-numeric\" \"x-count\" \"9\"",
            true,
        ),
        (
            "header :value \"gt\" :comparator \"i;ascii-numeric\" \"x-count\" \"10\"",
            false,
        ),
        ("header :value \"lt\" \"x-count\" \"9\"", true),
        ("header :value \"GE\" \"subject\" \"c\"", true),
        (
            "header :is :comparator \"i;ascii-numeric\" \"x-count\" \"0010\"",
            true,
        ),
        ("header :count \"eq\" \"x-count\" \"2\"", true),
        (
            "header :count \"gt\" [\"x-count\", \"subject\"] [\"5\", \"2\"]",
            true,
        ),
        ("header :count \"eq\" \"x-none\" \"0\"", true),
        (
            "address :count \"eq\" :comparator \"i;ascii-numeric\" [\"from\", \"to\"] \"3\"",
            true,
        ),
        ("envelope :count \"eq\" [\"from\", \"to\"] \"2\"", true),
        ("date :count \"eq\" \"date\" \"year\" \"1\"", true),
        ("date :count \"eq\" \"x-none\" \"year\" \"0\"", true),
    ]);
}

#[test]
fn subaddresses_have_a_user_and_a_detail() {
    check_tests(&[
        ("address :user \"to\" \"user\"", true),
        ("address :detail \"to\" \"lists\"", true),
        ("address :detail \"from\" \"\"", false),
        ("address :user \"from\" \"ann.smith\"", true),
        ("envelope :detail \"to\" \"lists\"", true),
        ("address :detail :matches \"to\" \"*\"", true),
    ]);
}

#[test]
fn regular_expressions_are_found() {
    check_tests(&[
        ("header :regex \"subject\" \"^caf. \\\\[[a-z]+\\\\]\"", true),
        (
            "header :regex :comparator \"i;octet\" \"subject\" \"^caf\"",
            false,
        ),
        (
            "header :regex \"subject\" [\"x{3}\", \"(hello|bye) world$\"]",
            true,
        ),
        ("address :domain :regex \"to\" \"^sub\\\\.\"", true),
        ("not header :regex \"subject\" \"^hello\"", true),
    ]);
    check(&[
        (
            "if header :regex \"subject\" \"\\\\[(.*)\\\\] ([^ ]*)(x)?\" \
             { fileinto \"${1}-${2}-${3}-${4}\"; }",
            "file list-hello--",
        ),
        (
            "set \"p\" \"[(l)(i)\"; if header :regex \"subject\" \"\\\\${p}\" { fileinto \"${2}\"; }",
            "file i",
        ),
        (
            "set \"p\" \"(\"; if header :regex \"subject\" \"${p}\" { }",
            "keep, fault script 2:17",
        ),
        (
            "set :quoteregex \"p\" \"[list]\"; if header :regex \"subject\" \"${p} h\" { discard; }",
            "discard",
        ),
    ]);
}

#[test]
fn variables_hold_values() {
    check(&[
        ("set \"a\" \"x\"; fileinto \"${a}y${A}\";", "file xyx"),
        (
            "set \"a\" \"x\"; set \"a\" \"${a}${a}\"; fileinto \"${a}${none}\";",
            "file xx",
        ),
        (
            "set :upper :length \"a\" \"xyz\"; fileinto \"n${a}\";",
            "file n3",
        ),
        (
            "set :lower :upperfirst \"a\" \"hELLO\"; fileinto \"${a}\";",
            "file Hello",
        ),
        (
            "set :upperfirst :lower \"a\" \"hELLO\"; fileinto \"${a}\";",
            "file Hello",
        ),
        (
            "if header :matches \"subject\" \"*[*] * *\" { fileinto \"${2}/${3}/${9}\"; }",
            "file list/hello/",
        ),
        (
            "if header :matches \"x-count\" [\"?0\", \"*\"] { } if header :matches \"x-count\" \"x\" { } \
             fileinto \"${1}\";",
            "file 1",
        ),
        (
            "if header :contains \"subject\" \"list\" { } if string \"${0}\" \"\" { discard; }",
            "discard",
        ),
        (
            "if body :matches \"*plain*\" { } if string :is \"${1}\" \"\" { discard; }",
            "discard",
        ),
        (
            "set \"a\" \"user+x@example.net\"; redirect \"${a}\";",
            "redirect user+x@example.net",
        ),
        (
            "set \"a\" \"wrong\"; redirect \"${a}\";",
            "keep, fault script 2:18",
        ),
        (
            "set \"a\" \"\"; fileinto \"${a}\";",
            "keep, fault script 2:13",
        ),
    ]);
    check_tests(&[
        ("string :is \"a\" [\"b\", \"A\"]", true),
        ("string :count \"eq\" [\"a\", \"\", \"b\"] \"2\"", true),
        ("string :matches \"abc\" \"a*\"", true),
        ("string \"${hex:24}{x}\" \"\"", true),
    ]);
}

#[test]
fn without_variables_a_reference_is_text() {
    let case = Case::default();
    assert_eq!(case.outcome("fileinto \"${a}\";"), "file ${a}");
    assert_eq!(
        case.outcome("set \"a\" \"x\"; fileinto \"${a}\";"),
        "file x"
    );
    let script = "if string \"${a}\" \"\" { discard; }";
    assert_eq!(case.outcome(script), "discard");
}

#[test]
fn dates_have_parts_and_zones() {
    check_tests(&[
        ("date :originalzone \"date\" \"hour\" \"10\"", true),
        ("date :zone \"+0000\" \"date\" \"hour\" \"09\"", true),
        ("date \"date\" \"zone\" \"+0100\"", true),
        ("date :value \"ge\" \"date\" \"date\" \"2024-01-01\"", true),
        ("date :originalzone \"received\" \"weekday\" \"2\"", true),
        (
            "date :zone \"+0200\" \"received\" \"iso8601\" \"2024-01-03T06:30:00+02:00\"",
            true,
        ),
        ("date \"x-none\" \"year\" \"2024\"", false),
        ("date :matches \"x-none\" \"year\" \"*\"", false),
        ("date :matches \"subject\" \"year\" \"*\"", false),
        ("currentdate \"date\" \"2024-06-15\"", true),
        ("currentdate \"hour\" \"12\"", true),
        ("currentdate :zone \"-0800\" \"hour\" \"02\"", true),
        ("currentdate :value \"lt\" \"date\" \"2024-06-15\"", false),
        ("currentdate :value \"gt\" \"date\" \"2024-06-14\"", true),
        ("currentdate \"weekday\" \"6\"", true),
        (
            "currentdate \"std11\" \"Sat, 15 Jun 2024 12:30:00 +0200\"",
            true,
        ),
    ]);
    check(&[
        (
            "set \"z\" \"x\"; if currentdate :zone \"${z}\" \"hour\" \"1\" { }",
            "keep, fault script 2:17",
        ),
        (
            "set \"p\" \"year\"; if currentdate \"${p}\" \"2024\" { discard; }",
            "discard",
        ),
        (
            "set \"p\" \"age\"; if currentdate \"${p}\" \"1\" { }",
            "keep, fault script 2:19",
        ),
    ]);
}

#[test]
fn bodies_are_compared() {
    check_tests(&[
        ("body :contains \"PLAIN\"", true),
        ("body :text :contains \"bold text\"", true),
        ("body :text :contains \"<b>\"", false),
        ("body :raw :contains \"<b>\"", true),
        ("body :raw :contains \"Subject\"", false),
        ("body :content \"text/html\" :contains \"<b>\"", true),
        ("body :content \"text/plain\" :contains \"<b>\"", false),
        (
            "body :content [\"image\", \"text\"] :contains \"<b>\"",
            true,
        ),
        ("body :content \"\" :contains \"plain text\"", true),
        ("body :content \"image/png\" :matches \"*\"", false),
        ("body :regex \"s[o]me +bold\"", true),
        ("body :comparator \"i;octet\" :contains \"PLAIN\"", false),
    ]);
}

#[test]
fn an_answer_is_asked_for() {
    check(&[
        ("vacation \"gone\";", "keep, answer"),
        (
            "vacation :days 3 :subject \"s\" :from \"a@b.test\" :addresses [\"c@d.test\"] \
          :handle \"h\" :mime \"gone\"; discard;",
            "discard",
        ),
        ("fileinto \"A\"; vacation \"gone\";", "file A, answer"),
        ("vacation \"gone\"; reject \"no\";", "reject \"no\""),
        (
            "vacation \"gone\"; vacation \"gone\";",
            "keep, fault script 2:18",
        ),
    ]);
}
