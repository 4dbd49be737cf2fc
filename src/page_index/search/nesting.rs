//! How deep a filter nests: tantivy's parser calls itself for every open bracket and every NOT, and the stack ends somewhere.

/// The deepest filter that is parsed.
pub(super) const DEEPEST: usize = 100;

/// An open bracket.
struct Open {
    /// How much deeper what it holds is: one, and the NOTs before it.
    levels: usize,
    quotes: usize,
    /// Whether what it holds may be more text than it looks: then a closing bracket may be text too, and closes nothing here.
    unclear: bool,
}

/// The most brackets and NOTs that stand open at once; never fewer than the parser meets.
pub(super) fn depth(filter: &str) -> usize {
    let (mut open, mut depth, mut deepest): (Vec<Open>, usize, usize) = (Vec::new(), 0, 0);
    for piece in filter.split_inclusive(['(', ')']) {
        let text = piece.trim_end_matches(['(', ')']);
        if let Some(last) = open.last_mut() {
            last.quotes += text.matches('"').count();
            last.unclear |= is_unclear(text);
        }
        let nots = longest_run_of_nots(text);
        deepest = deepest.max(depth + nots);
        if piece.ends_with('(') {
            open.push(Open { levels: 1 + nots, quotes: 0, unclear: false });
            depth += 1 + nots;
            deepest = deepest.max(depth);
        } else if piece.ends_with(')')
            && let Some(closed) = open.pop_if(|last| !last.unclear && last.quotes.is_multiple_of(2))
        {
            depth -= closed.levels;
        }
    }
    deepest
}

/// Whether a text may hold a regular expression, a phrase in single quotes, or a quote that is escaped.
fn is_unclear(text: &str) -> bool {
    let mut before = None;
    text.chars().any(|letter| {
        let begins = before.replace(letter).is_none_or(|before| before.is_whitespace() || ":+-[{".contains(before));
        letter == '\\' || begins && ['\'', '/'].contains(&letter)
    })
}

fn longest_run_of_nots(text: &str) -> usize {
    let (mut run, mut longest) = (0, 0);
    for word in text.split_whitespace() {
        run = if word.trim_start_matches(['+', '-']) == "NOT" { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_that_are_closed_do_not_add_up() {
        let groups = vec![r#"(doc_id:"a (b).pdf" AND NOT page:3 AND year:[2020 TO 2024])"#; 500].join(" OR ");
        assert_eq!(depth(&groups), 2);
        assert_eq!(depth("a AND b"), 0);
        assert_eq!(depth("(a OR (b AND NOT (c OR d)))"), 4);
    }

    #[test]
    fn what_the_parser_enters_is_counted() {
        assert_eq!(depth(&"(".repeat(300)), 300);
        assert_eq!(depth(&"NOT ".repeat(300)), 300);
        assert_eq!(depth(&"+NOT text:(".repeat(50)), 100);
        assert_eq!(depth(&"(NOT NOT ".repeat(50)), 150);
    }

    #[test]
    fn a_bracket_that_is_text_closes_nothing() {
        for hidden in [r#"( ")" "#, r"( '(' ')' ", r"( \) ", r"( /)/ ", r#"( "\")" "#, "( text:/a)/ ", "(IN ['a)' ]"] {
            assert!(depth(&hidden.repeat(200)) >= 200, "{hidden}");
        }
    }
}
