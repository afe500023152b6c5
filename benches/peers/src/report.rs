//! The table: every workload's CPU time an operation beside that of the other engines.

use serde_json::Value;

/// Prints one table for each length of values; the first engine is the one that the ratios are of.
pub(crate) fn print(lines: &[Value], engines: &[String]) {
    let mut lengths: Vec<u64> = lines.iter().filter_map(|line| line["value_bytes"].as_u64()).collect();
    lengths.sort_unstable();
    lengths.dedup();
    for length in lengths {
        let lines: Vec<&Value> = lines.iter().filter(|line| line["value_bytes"] == length).collect();
        println!("\nValues of {length} bytes. A write that is not synced is, when the call returns, with");
        for engine in engines {
            let means = lines.iter().find(|line| line["engine"] == engine.as_str());
            println!("- {engine}: {}", means.and_then(|line| line["logged_means"].as_str()).unwrap_or("?"));
        }
        print_table(&lines, engines);
    }
}

fn print_table(lines: &[&Value], engines: &[String]) {
    let mut header = vec!["workload".to_owned()];
    for engine in engines {
        header.extend([format!("{engine}: CPU us"), "a second".to_owned(), "p99 us".to_owned()]);
    }
    for other in engines.iter().skip(1) {
        header.extend([format!("CPU {other} / {}", engines[0]), format!("rate {} / {other}", engines[0])]);
    }
    println!("\n| {} |\n| --- |{}", header.join(" | "), " ---: |".repeat(header.len() - 1));
    for workload in workloads(lines) {
        let cells: Vec<Cell> = engines.iter().map(|engine| Cell::of(lines, engine, workload)).collect();
        let mut row = vec![workload.to_owned()];
        for cell in &cells {
            row.extend([show(cell.cpu_us, 2), show(cell.rate, 0), show(cell.p99_us, 1)]);
        }
        for other in &cells[1..] {
            row.push(show(ratio(other.cpu_us, cells[0].cpu_us), 2));
            row.push(show(ratio(cells[0].rate, other.rate), 2));
        }
        println!("| {} |", row.join(" | "));
    }
}

/// One engine's figures of a workload; what was not measured stays empty.
struct Cell {
    cpu_us: Option<f64>,
    rate: Option<f64>,
    p99_us: Option<f64>,
}

impl Cell {
    fn of(lines: &[&Value], engine: &str, workload: &str) -> Self {
        let line = lines.iter().find(|line| line["engine"] == engine && line["workload"] == workload);
        let number = |name: &str| line.and_then(|line| line[name].as_f64());
        Self {
            cpu_us: number("cpu_us_per_operation"),
            rate: number("operations_per_second"),
            p99_us: number("latency_us_p99"),
        }
    }
}

/// The workloads in the order in which they ran.
fn workloads<'a>(lines: &[&'a Value]) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in lines.iter().filter_map(|line| line["workload"].as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn ratio(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    Some(left? / right.filter(|right| *right > 0.0)?)
}

fn show(number: Option<f64>, digits: usize) -> String {
    number.map_or_else(String::new, |number| format!("{number:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_not_measured_has_no_ratio() {
        let line = json!({"engine": "a", "workload": "w", "cpu_us_per_operation": 2.0});
        let cell = Cell::of(&[&line], "a", "w");
        assert_eq!(ratio(Some(3.0), cell.cpu_us), Some(1.5));
        assert_eq!(ratio(Some(3.0), cell.rate), None);
        assert_eq!(show(None, 2), "");
        assert_eq!(workloads(&[&line, &line]), ["w"]);
    }
}
