//! The format of the transcripts.
//!
//! A block is comment lines (`#`), a command line (`name arg key=value key=(v1,v2)`, continued by a `\` at its end), input
//! lines, a line `----`, the expected output and an empty line. Output that holds empty lines stands between two doubled
//! `----`.

use std::iter::Peekable;
use std::ops::Range;

/// A command's argument: a bare word has no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) arguments: Vec<Argument>,
}

impl Command {
    pub(crate) fn parse(line: &str) -> Self {
        let mut words = words(line).into_iter();
        let name = words.next().unwrap_or_default();
        let arguments = words.map(|word| argument(&word)).collect();
        Self { name, arguments }
    }

    /// The bare words.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.arguments
            .iter()
            .filter(|argument| argument.values.is_empty())
            .map(|argument| argument.key.as_str())
    }

    /// The bare words as numbers.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.words().map(|word| word.parse().unwrap_or_else(|_| panic!("{word} is no number"))).collect()
    }

    /// The values of a key, none when it is not there.
    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.arguments
            .iter()
            .find(|argument| argument.key == key)
            .map_or(&[], |argument| &argument.values[..])
    }

    /// The only value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.values(key).first().map(String::as_str)
    }
}

/// Splits at spaces that are not within parentheses.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut depth) = (Vec::new(), String::new(), 0);
    for letter in line.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if letter.is_whitespace() && depth == 0 {
            words.push(std::mem::take(&mut word));
        } else {
            word.push(letter);
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn argument(word: &str) -> Argument {
    let Some((key, value)) = word.split_once('=') else {
        return Argument { key: word.to_owned(), values: Vec::new() };
    };
    let list = value.strip_prefix('(').and_then(|value| value.strip_suffix(')'));
    let values = match list {
        Some(list) => list
            .split([',', ' '])
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .map(ToOwned::to_owned)
            .collect(),
        None => vec![value.to_owned()],
    };
    Argument { key: key.to_owned(), values }
}

/// A command with its input and the output that it must have.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Where it begins.
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) command: Command,
    pub(crate) input: Vec<String>,
    pub(crate) expected: String,
    /// The lines of the file that the output takes, with its fences and the empty line at its end.
    pub(crate) output_lines: Range<usize>,
}

pub(crate) fn parse(text: &str) -> Vec<Block> {
    let mut lines = text.lines().enumerate().peekable();
    let mut blocks = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut command = line.to_owned();
        while let Some(start) = command.strip_suffix('\\') {
            let (_, more) = lines.next().unwrap_or_else(|| panic!("line {number}: the command does not end"));
            command = format!("{start} {}", more.trim());
        }
        let input =
            lines.by_ref().map(|(_, line)| line.to_owned()).take_while(|line| line != "----").collect();
        let start = lines.peek().map_or(text.lines().count(), |(number, _)| *number);
        let (expected, end) = output(&mut lines, start);
        blocks.push(Block {
            line: number + 1,
            command: Command::parse(&command),
            text: command,
            input,
            expected,
            output_lines: start..end,
        });
    }
    blocks
}

/// The expected output, and the number of the line after it.
fn output<'a>(lines: &mut Peekable<impl Iterator<Item = (usize, &'a str)>>, start: usize) -> (String, usize) {
    let fenced = lines.next_if(|(_, line)| *line == "----").is_some();
    let (mut expected, mut end) = (Vec::new(), start);
    while let Some((number, line)) = lines.next() {
        end = number + 1;
        if fenced && line == "----" && lines.next_if(|(_, line)| *line == "----").is_some() {
            end += 1;
            break;
        }
        if !fenced && line.trim().is_empty() {
            break;
        }
        expected.push(line);
    }
    (expected.join("\n"), end)
}

/// The file with other outputs in the place of those that it has.
pub(crate) fn rewrite(text: &str, blocks: &[Block], outputs: &[String]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut next) = (String::new(), 0);
    for (block, output) in blocks.iter().zip(outputs) {
        for line in &lines[next..block.output_lines.start] {
            out += &format!("{line}\n");
        }
        let output = output.trim_end();
        let fence = if output.contains("\n\n") { "----\n----\n" } else { "" };
        out += &format!("{}{output}\n{fence}\n", fence.get(5..).unwrap_or_default());
        next = block.output_lines.end;
    }
    for line in &lines[next..] {
        out += &format!("{line}\n");
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

#[test]
fn a_rewritten_file_differs_in_its_outputs_alone() {
    let text = "# why\nfirst 1\nin\n----\nold\nold\n\n# then\nsecond\n----\n----\nold\n\nold\n----\n----\n";
    let blocks = parse(text);
    let outputs = ["new".to_owned(), "a\n\nb".to_owned()];
    let new = rewrite(text, &blocks, &outputs);
    assert_eq!(new, "# why\nfirst 1\nin\n----\nnew\n\n# then\nsecond\n----\n----\na\n\nb\n----\n----\n");
    let again: Vec<String> = parse(&new).into_iter().map(|block| block.expected).collect();
    assert_eq!(again, outputs);
}

#[test]
fn blocks_are_read_with_lists_inputs_and_fences() {
    let blocks = parse(
        "# a comment\nfirst 1 a=(2, 3) b=x\nin 1\nin 2\n----\nout\n\nsecond\n----\n----\nout\n\nmore\n----\n----\n",
    );
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[0].command.numbers(), [1]);
    assert_eq!(blocks[0].command.values("a"), ["2", "3"]);
    assert_eq!(blocks[0].command.value("b"), Some("x"));
    assert_eq!(
        (&blocks[0].input[..], &blocks[0].expected[..]),
        (&["in 1".to_owned(), "in 2".to_owned()][..], "out")
    );
    assert_eq!(blocks[1].expected, "out\n\nmore");
}
