//! The code of a source file without its tests.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Returns the tokens of a source without the items and statements that only tests have.
pub(super) fn shipped(tokens: TokenStream) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut kept = Vec::new();
    while let Some(token) = tokens.next() {
        let is_mark = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == '#');
        if is_mark && tokens.next_if(is_test).is_some() {
            drop(tokens.by_ref().find(is_end));
            continue;
        }
        kept.push(match token {
            TokenTree::Group(group) => Group::new(group.delimiter(), shipped(group.stream())).into(),
            token => token,
        });
    }
    kept.into_iter().collect()
}

/// Returns true for the brackets of an attribute that marks tests.
fn is_test(token: &TokenTree) -> bool {
    let is_marked = |text: String| text == "cfg(test)" || text.starts_with("cfg(all(test,");
    matches!(token, TokenTree::Group(group) if is_marked(group.stream().to_string().replace(' ', "")))
}

/// Returns true for the end of an item or statement: its body, or a semicolon.
fn is_end(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() == ';',
        _ => false,
    }
}

#[test]
fn shipped_code_has_no_tests_and_nothing_less() {
    let code = "
        #[cfg(test)] use count::looked;
        fn a() { #[cfg(test)] CALLS.with(|calls| calls.set(1)); b() }
        #[cfg(test)]
        #[path = \"../x.rs\"]
        mod x;
        #[cfg(all(test, unix))] pub(crate) mod count { fn c() { d(); } }
        #[cfg(unix)] fn e() {}
        #[cfg(test)]
        #[allow(clippy::unwrap_used)]
        mod tests { fn f() {} }
        fn g() {}";
    let want = "fn a() { b() } #[cfg(unix)] fn e() {} fn g() {}";
    let [code, want] = [code, want].map(|code| code.parse::<TokenStream>().expect("tokens"));
    assert_eq!(shipped(code).to_string(), want.to_string());
}
