//! Sizes, times and processors as Compose writes them, and as Kubernetes does.

/// Bytes of `1g`, `512m`, `64k`, `1.5gb`, `100`: multiples of 1024, whatever the letter's case.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|sign: char| !sign.is_ascii_digit() && sign != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let factor = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 1,
        "m" | "mb" | "mi" | "mib" => 2,
        "g" | "gb" | "gi" | "gib" => 3,
        "t" | "tb" | "ti" | "tib" => 4,
        _ => return None,
    };
    let factor = 1024_i64.pow(factor);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    // What is larger is no size of anything.
    (value.is_finite() && value < 9e18).then_some(value as i64)
}

/// Bytes as Kubernetes writes them, in the largest unit that is exact.
pub(crate) fn quantity(bytes: i64) -> String {
    for (unit, power) in [("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        let size = 1_i64 << power;
        if bytes != 0 && bytes % size == 0 {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

/// Thousandths of a processor of `0.5`; Kubernetes knows nothing smaller.
pub(crate) fn thousandths(text: &str) -> Option<i64> {
    let value: f64 = text.trim().parse().ok()?;
    (0.0..1e6)
        .contains(&value)
        .then(|| (value * 1000.0).round() as i64)
}

/// Processors as Kubernetes writes them: 500 thousandths are `500m`, 2000 are `2`.
pub(crate) fn processors(thousandths: i64) -> String {
    match thousandths % 1000 {
        0 => (thousandths / 1000).to_string(),
        _ => format!("{thousandths}m"),
    }
}

/// Milliseconds of `1m30s`, `500ms`, `1.5h`, `2d`, `10us`.
pub(crate) fn milliseconds(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut sum = 0.0;
    let mut some = false;
    while !rest.is_empty() {
        let end = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|sign: char| sign.is_ascii_digit() || sign == '.');
        let (unit, behind) = rest.split_at(end.unwrap_or(rest.len()));
        sum += number
            * match unit {
                "ns" => 1e-6,
                "us" | "µs" => 1e-3,
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 60e3,
                "h" => 3600e3,
                "d" => 86_400e3,
                "w" => 604_800e3,
                _ => return None,
            };
        rest = behind;
        some = true;
    }
    (some && sum < 9e15).then_some(sum as i64)
}

/// Whole seconds, rounded up: what Kubernetes waits for.
pub(crate) fn seconds(text: &str) -> Option<i32> {
    let milliseconds = milliseconds(text)?;
    i32::try_from((milliseconds + 999) / 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_multiples_of_1024() {
        for (text, expected) in [
            ("100", Some(100)),
            ("64k", Some(65_536)),
            ("512M", Some(536_870_912)),
            ("512mb", Some(536_870_912)),
            ("1.5g", Some(1_610_612_736)),
            ("2 GB", Some(2_147_483_648)),
            ("x", None),
            ("5 apples", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn quantities_are_exact_and_short() {
        assert_eq!(quantity(1_610_612_736), "1536Mi");
        assert_eq!(quantity(1 << 30), "1Gi");
        assert_eq!(quantity(1000), "1000");
        assert_eq!(quantity(0), "0");
    }

    #[test]
    fn processors_are_told_in_thousandths() {
        let of = |text| thousandths(text).map(processors);
        assert_eq!(of("0.50").as_deref(), Some("500m"));
        assert_eq!(of("2").as_deref(), Some("2"));
        assert_eq!(of("1.25").as_deref(), Some("1250m"));
        assert_eq!(of("many"), None);
        assert_eq!(of("-1"), None);
    }

    #[test]
    fn times_are_summed_and_rounded_up_to_seconds() {
        assert_eq!(milliseconds("1m30s"), Some(90_000));
        assert_eq!(milliseconds("1h5m30s20ms"), Some(3_930_020));
        assert_eq!(seconds("500ms"), Some(1));
        assert_eq!(seconds("1.5s"), Some(2));
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds("10"), None);
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds(""), None);
    }
}
