//! Percentiles of latencies.

/// `"p50_ms":…,"p99_ms":…` of latencies in milliseconds.
pub(crate) fn json(milliseconds: &mut [f64]) -> String {
    milliseconds.sort_by(f64::total_cmp);
    format!("\"p50_ms\":{:.3},\"p99_ms\":{:.3}", at(milliseconds, 50), at(milliseconds, 99))
}

/// The value that `percent` of the sorted values are below.
fn at(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn percentiles_of_a_hundred_and_of_none() {
        let mut values: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert_eq!(super::json(&mut values), "\"p50_ms\":50.000,\"p99_ms\":99.000");
        assert_eq!(super::json(&mut []), "\"p50_ms\":0.000,\"p99_ms\":0.000");
    }
}
