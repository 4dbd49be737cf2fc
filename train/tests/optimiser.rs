//! AdamW and clipping against PyTorch's. The fixture is made by `tests/oracle/make_optimiser.py`.

use candle_core::{Device, Tensor, Var};
use colqwen_index_train::encode::Parameter;
use colqwen_index_train::gradients::Gradients;
use colqwen_index_train::optimiser::{AdamW, AdamWOptions};
use serde_json::Value;

fn tensor(value: &Value, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn parameters(start: &Value) -> Vec<Parameter> {
    [("matrix", vec![2, 3]), ("bias", vec![3])]
        .map(|(name, shape)| Parameter {
            name: name.to_owned(),
            var: Var::from_tensor(&tensor(&start[name], &shape)).unwrap(),
        })
        .into()
}

fn gradients(parameters: &[Parameter], step: &Value) -> Gradients {
    // The gradient of the sum of products is the other factor.
    let product = |parameter: &Parameter| {
        let slope = tensor(&step[format!("{}_gradient", parameter.name)], parameter.var.dims());
        (parameter.var.as_tensor() * slope).unwrap().sum_all().unwrap()
    };
    let sum = parameters.iter().map(product).reduce(|sum, more| (sum + more).unwrap()).unwrap();
    let mut gradients = Gradients::none(parameters.len());
    gradients.add(parameters, &sum.backward().unwrap()).unwrap();
    gradients
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

const OPTIONS: AdamWOptions = AdamWOptions { beta1: 0.8, beta2: 0.95, epsilon: 1e-6, weight_decay: 0.1 };

#[test]
fn steps_are_those_of_pytorch_also_after_a_pause() {
    let fixture: Value = serde_json::from_str(include_str!("oracle/optimiser.json")).unwrap();
    let parameters = parameters(&fixture["start"]);
    let mut optimiser = AdamW::new(&parameters, OPTIONS).unwrap();
    for (at, step) in fixture["steps"].as_array().unwrap().iter().enumerate() {
        let mut gradients = gradients(&parameters, step);
        let norm = gradients.clip(2.0).unwrap();
        assert!((norm - step["norm"].as_f64().unwrap()).abs() < 1e-5 * norm);
        optimiser.step(&parameters, &gradients, step["rate"].as_f64().unwrap()).unwrap();
        for parameter in &parameters {
            let expected = values(&tensor(&step[&parameter.name], parameter.var.dims()));
            for (found, expected) in values(parameter.var.as_tensor()).iter().zip(expected) {
                assert!((found - expected).abs() < 5e-6, "step {at}, {}: {found} != {expected}", parameter.name);
            }
        }
        if at == 3 {
            let moments = optimiser.moments().to_vec();
            optimiser = AdamW::resume(&parameters, OPTIONS, optimiser.steps(), moments).unwrap();
        }
    }
}

#[test]
fn what_would_spoil_the_weights_is_refused() {
    let fixture: Value = serde_json::from_str(include_str!("oracle/optimiser.json")).unwrap();
    let parameters = parameters(&fixture["start"]);
    let options = |beta1, epsilon, weight_decay| AdamWOptions { beta1, epsilon, weight_decay, ..OPTIONS };
    for options in [options(1.0, 1e-8, 0.0), options(0.9, 0.0, 0.0), options(0.9, 1e-8, -1.0)] {
        assert!(AdamW::new(&parameters, options).is_err());
    }
    let mut optimiser = AdamW::new(&parameters, OPTIONS).unwrap();
    let error = optimiser.step(&parameters, &Gradients::none(1), 0.1).unwrap_err().to_string();
    assert!(error.contains("2, one per parameter"), "{error}");
    let mut moments = optimiser.moments().to_vec();
    moments.swap(0, 1);
    assert!(AdamW::resume(&parameters, OPTIONS, 1, moments).unwrap_err().to_string().contains("matrix"));
    let mut step = fixture["steps"][0].clone();
    step["bias_gradient"][0] = Value::from(1e300);
    assert!(gradients(&parameters, &step).clip(1.0).unwrap_err().to_string().contains("finite"));
    // Parameters without a gradient stay.
    let before = values(parameters[0].var.as_tensor());
    optimiser.step(&parameters, &Gradients::none(2), 0.1).unwrap();
    assert_eq!(values(parameters[0].var.as_tensor()), before);
}
