//! Slurm's notations: lists of nodes, and of how many tasks each has.

/// As many nodes as Slurm itself takes.
const MOST: usize = 65_536;

/// The nodes of a list such as `login,gpu[01-03,7],rack[1-2]n[0-1]`, in its order.
///
/// # Errors
/// What is wrong with it.
pub fn nodes(list: &str) -> Result<Vec<String>, String> {
    let mut nodes = Vec::new();
    for item in items(list)? {
        let mut names = vec![String::new()];
        let mut rest = item;
        while let Some((before, after)) = rest.split_once('[') {
            let (ranges, after) = after.split_once(']').ok_or("a [ without its ]")?;
            let room = MOST / names.len();
            let endings = numbers(ranges, room)?;
            names =
                names.iter().flat_map(|name| endings.iter().map(move |end| format!("{name}{before}{end}"))).collect();
            rest = after;
        }
        if rest.contains(']') {
            return Err("a ] without its [".to_owned());
        }
        nodes.extend(names.into_iter().map(|name| format!("{name}{rest}")));
        if nodes.len() > MOST {
            return Err(format!("more than {MOST} nodes"));
        }
    }
    Ok(nodes)
}

/// The items between the commas that are in no brackets.
fn items(list: &str) -> Result<Vec<&str>, String> {
    let (mut inside, mut start) = (false, 0);
    let mut items = Vec::new();
    for (at, letter) in list.char_indices() {
        match letter {
            '[' | ']' if inside == (letter == '[') => return Err(format!("a {letter} where none may be")),
            '[' | ']' => inside = !inside,
            ',' if !inside => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&list[start..]);
    if inside {
        return Err("a [ without its ]".to_owned());
    }
    if items.contains(&"") {
        return Err("an empty name".to_owned());
    }
    Ok(items)
}

/// The numbers of `01-03,7`, at most `room`, each as wide as its range's first is written.
fn numbers(ranges: &str, room: usize) -> Result<Vec<String>, String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = if digits { text.parse::<u64>().ok() } else { None };
        parsed.ok_or_else(|| format!("{text:?} where a number is expected"))
    };
    let mut all = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (number(first)?, number(last)?);
        if from > to {
            return Err(format!("the range {range} ends before it begins"));
        }
        if to - from >= (room - all.len()) as u64 {
            return Err(format!("more than {MOST} nodes"));
        }
        all.extend((from..=to).map(|number| format!("{number:0width$}", width = first.len())));
    }
    Ok(all)
}

/// How many tasks the `node`-th node has, of a list such as `4(x2),3`; `None` where that is not such a list, or a shorter
/// one.
#[must_use]
pub fn tasks_on(list: &str, node: usize) -> Option<usize> {
    let mut before = 0_usize;
    for item in list.split(',') {
        let (tasks, times) = match item.split_once("(x") {
            Some((tasks, times)) => (tasks, times.strip_suffix(')')?.parse().ok()?),
            None => (item, 1),
        };
        let tasks = tasks.parse().ok()?;
        before = before.checked_add(times)?;
        if node < before {
            return Some(tasks);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_of_nodes_is_read_in_its_order_with_its_zeros() {
        let read = |list: &str| nodes(list).map(|nodes| nodes.join(" "));
        for (list, expected) in [
            ("alone", "alone"),
            ("a,b-1,c.site.org", "a b-1 c.site.org"),
            ("gpu[3]", "gpu3"),
            ("gpu[008-011,2],login", "gpu008 gpu009 gpu010 gpu011 gpu2 login"),
            ("gpu[9-11]-ib", "gpu9-ib gpu10-ib gpu11-ib"),
            ("r[1-2]n[0-1]", "r1n0 r1n1 r2n0 r2n1"),
        ] {
            assert_eq!(read(list).as_deref(), Ok(expected), "{list}");
        }
    }

    #[test]
    fn a_list_that_is_none_is_refused_and_one_too_long_before_it_is_written_out() {
        for (list, expected) in [
            ("", "an empty name"),
            ("a,,b", "an empty name"),
            ("gpu[1-3", "a [ without its ]"),
            ("gpu1]", "a ] where none may be"),
            ("gpu[[1]]", "a [ where none may be"),
            ("gpu[3-1]", "the range 3-1 ends before it begins"),
            ("gpu[a-b]", "\"a\" where a number is expected"),
            ("gpu[]", "\"\" where a number is expected"),
            ("gpu[0-18446744073709551615]", "more than 65536 nodes"),
            ("a[1-60000]b[1-60000]", "more than 65536 nodes"),
        ] {
            assert_eq!(nodes(list), Err(expected.to_owned()), "{list}");
        }
    }

    #[test]
    fn tasks_of_a_node_are_found_in_slurms_list() {
        let of = |node| tasks_on("4(x2),3", node);
        assert_eq!((of(0), of(1), of(2), of(3)), (Some(4), Some(4), Some(3), None));
        assert_eq!((tasks_on("8", 0), tasks_on("8(x", 0), tasks_on("", 0)), (Some(8), None, None));
    }

    proptest! {
        #[test]
        fn a_range_written_out_is_what_it_was_made_of(
            name in "[a-z]{1,6}-?", from in 0_u64..2000, more in 0_u64..50, width in 1_usize..6, after in "(-[a-z]{1,3})?"
        ) {
            let list = format!("first,{name}[{from:0width$}-{}]{after},last", from + more);
            let mut expected = vec!["first".to_owned()];
            expected.extend((from..=from + more).map(|number| format!("{name}{number:0width$}{after}")));
            expected.push("last".to_owned());
            prop_assert_eq!(nodes(&list), Ok(expected));
        }

        #[test]
        fn no_list_makes_it_panic(list in "[a-c0-9,\\[\\]-]{0,24}") {
            let _ = nodes(&list);
        }
    }
}
