//! Suggestions for misspelled names.

/// Returns the closest candidate within a third of the word's length (at least two edits), by optimal string
/// alignment, ignoring case.
pub(crate) fn closest_match<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["mydestination", "mydomain", "mynetworks", "myorigin"];
        assert_eq!(closest_match("mydestinaton", known), Some("mydestination"));
        assert_eq!(closest_match("MyNetwroks", known), Some("mynetworks"));
        assert_eq!(closest_match("smtpd_banner", known), None);
        assert_eq!(closest_match("mydomani", known), Some("mydomain"), "a swap is one edit");
    }
}
