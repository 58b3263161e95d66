//! Expressions of XPath 1.0 that find what a visitor sees by its text.

/// What an element has that is no text of the page.
const NO_TEXT: &str = "not(ancestor-or-self::script or ancestor-or-self::style \
                       or ancestor-or-self::template or ancestor-or-self::title)";

/// The innermost elements whose text has this part. Runs of white space count as one space.
pub fn text(part: &str) -> String {
    let holds = format!("contains(normalize-space(.), {})", literal(part));
    format!("//body//*[{holds}][not(*[{holds}])][{NO_TEXT}]|//body[{holds}][not(*[{holds}])]")
}

/// The page, once no text in it has this part.
pub fn no_text(part: &str) -> String {
    format!(
        "/html[not(.//body//text()[contains(normalize-space(.), {})][{NO_TEXT}])]",
        literal(part)
    )
}

/// The buttons with this text, below the elements that `within` selects. An empty one is the page.
pub fn button(within: &str, name: &str) -> String {
    let name = literal(name);
    format!(
        "{within}//*[self::button or self::summary or @role='button'][{}]\
         |{within}//input[@type='submit' or @type='button'][@value={name}]",
        named(&name)
    )
}

/// The links with this text.
pub fn link(name: &str) -> String {
    format!("//a[@href][{}]", named(&literal(name)))
}

fn named(name: &str) -> String {
    format!("normalize-space(.)={name} or @aria-label={name}")
}

/// The fields with this label: beside it, around it, or as an attribute.
pub fn field(label: &str) -> String {
    let label = literal(label);
    format!(
        "//*[self::input or self::select or self::textarea]\
         [@id=//label[normalize-space(.)={label}]/@for or @aria-label={label} \
         or ancestor::label[normalize-space(.)={label} or normalize-space(text()[1])={label}]]"
    )
}

/// The options with this text of the lists with this label.
pub fn option(label: &str, option: &str) -> String {
    let option = literal(option);
    format!("{}//option[normalize-space(.)={option}]", field(label))
}

/// The table with this caption.
pub fn table(caption: &str) -> String {
    format!("//table[caption[normalize-space(.)={}]]", literal(caption))
}

/// The rows of tables whose text has this part.
pub fn row(part: &str) -> String {
    format!("//tr[td][contains(normalize-space(.), {})]", literal(part))
}

/// The rows of tables that have both texts.
pub fn row_with(part: &str, text: &str) -> String {
    format!(
        "{}[contains(normalize-space(.), {})]",
        row(part),
        literal(text)
    )
}

/// The frames with this title.
pub fn frame(title: &str) -> String {
    format!("//iframe[@title={}]", literal(title))
}

/// A text as a value of XPath 1.0, which has no escapes.
fn literal(text: &str) -> String {
    if !text.contains('\'') {
        return format!("'{text}'");
    }
    let parts: Vec<_> = text.split('\'').map(|part| format!("'{part}'")).collect();
    format!("concat({})", parts.join(", \"'\", "))
}

#[test]
fn a_text_may_have_quotes() {
    assert_eq!(literal("a \"b\""), "'a \"b\"'");
    assert_eq!(literal("it's"), "concat('it', \"'\", 's')");
}
