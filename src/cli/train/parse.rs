//! Options that are more than a word or a number.

use colqwen_index::train::network::Lora;

/// `r=32,alpha=32,dropout=0.1,targets=q_proj+v_proj`, each part optional.
pub fn lora(text: &str) -> Result<Lora, String> {
    let mut lora = Lora::default();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("expected name=value, received {part:?}"))?;
        let number = |_| format!("{name}: expected a number, received {value:?}");
        match name.trim() {
            "r" => lora.rank = value.parse().map_err(|_| format!("r: expected a whole number, received {value:?}"))?,
            "alpha" => lora.alpha = value.parse().map_err(number)?,
            "dropout" => lora.dropout = value.parse().map_err(number)?,
            "targets" => lora.targets = targets(value)?,
            other => return Err(format!("expected r, alpha, dropout or targets, received {other:?}")),
        }
    }
    Ok(lora)
}

/// Ends of names of layers. Whether the model has such layers is known when it is loaded.
fn targets(text: &str) -> Result<Vec<String>, String> {
    let targets: Vec<String> = text.split('+').map(|target| target.trim().to_owned()).collect();
    match targets.iter().any(String::is_empty) {
        true => Err(format!("targets: expected ends of names of layers such as q_proj+v_proj, received {text:?}")),
        false => Ok(targets),
    }
}

/// `20GB`, `512MB` or a number of bytes.
pub fn memory(text: &str) -> Result<usize, String> {
    let units = [("GB", 1usize << 30), ("MB", 1 << 20), ("", 1)];
    let upper = text.trim().to_uppercase();
    let found =
        units.iter().find_map(|(name, unit)| Some((upper.strip_suffix(name)?.trim().parse::<f64>().ok()?, unit)));
    match found {
        Some((number, unit)) if number > 0.0 && number.is_finite() => Ok((number * *unit as f64) as usize),
        _ => Err(format!("expected a size above 0 such as 20GB or 512MB, received {text:?}")),
    }
}
