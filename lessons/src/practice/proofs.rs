//! Numbers in the texts of the bank that are links to the experiment which measures them, as on the pages of the lessons.

use crate::page::links;

/// How the address of such a link begins, and where in a text it does.
const PROVE: &str = "prove:";
const LINK: &str = "](prove:";

/// Whether a number of the text is such a link.
pub fn is_proven(text: &str) -> bool {
    text.contains(LINK)
}

/// The names of the experiments a text's links lead to, each once, in their order.
pub fn experiments(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    // Most texts have none, and reading Markdown takes longer than looking for one.
    if !is_proven(text) {
        return names;
    }
    for link in links(text) {
        let finding = link.to.strip_prefix(PROVE);
        let name = finding.and_then(|finding| finding.split('/').next());
        if let Some(name) = name.filter(|name| !names.iter().any(|known| known == name)) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The text without these links, for where they cannot be followed: a terminal, a report on paper.
pub fn without_links(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, link)) = rest.split_once(LINK) {
        let (Some((before, words)), Some((_, after))) =
            (before.rsplit_once('['), link.split_once(')'))
        else {
            break;
        };
        plain.push_str(before);
        plain.push_str(words);
        rest = after;
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Half is left after [17.3](prove:half-life/example) tokens, [18](prove:half-life/counted) in whole ones; \
                        [a page](https://example.org) says so of $a[1](2)$.";

    #[test]
    fn experiments_are_named_once() {
        assert_eq!(experiments(TEXT), ["half-life"]);
        assert_eq!(experiments("No link, no experiment."), [""; 0]);
    }

    #[test]
    fn only_links_to_experiments_are_taken_out() {
        assert_eq!(
            without_links(TEXT),
            "Half is left after 17.3 tokens, 18 in whole ones; [a page](https://example.org) says so of $a[1](2)$."
        );
        assert_eq!(without_links("[torn](prove:half"), "[torn](prove:half");
    }
}
