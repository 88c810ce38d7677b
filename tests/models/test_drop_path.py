import pytest
import torch
from transformers import InternVLVisionConfig, InternVLVisionModel

from fcot.models.drop_path import add_drop_path


def tower(layers=3):
    torch.manual_seed(0)
    return InternVLVisionModel(
        InternVLVisionConfig(
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=(28, 28),
            patch_size=(14, 14),
            layer_scale_init_value=1.0,
        )
    )


def images(count=2):
    return torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(1))


def output(model, count=2):
    with torch.no_grad():
        return model(images(count)).last_hidden_state


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_training_varies_and_evaluation_never_does(rate):
    model = tower()
    expected = output(model.eval())
    add_drop_path(model, rate)
    assert torch.equal(output(model), expected)
    model.train()
    assert not torch.equal(output(model, 64), output(model, 64))
    assert torch.equal(output(model.eval()), expected)


def test_no_rate_adds_nothing():
    model = tower().train()
    add_drop_path(model, 0.0)
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(output(model), output(model))


def branches(model, count):
    """Outputs of the last layer's attention and MLP branch, with and without drop path on them."""
    layer, seen = model.encoder.layer[-1], {}
    for name in ("attention", "mlp"):
        hook = getattr(layer, name).register_forward_hook(
            lambda module, inputs, out, name=name: seen.__setitem__(name, out[0] if isinstance(out, tuple) else out)
        )
        seen[f"{name} hook"] = hook
    output(model, count)
    for name in ("attention", "mlp"):
        seen.pop(f"{name} hook").remove()
    return seen


def test_whole_tiles_are_dropped_and_the_rest_scaled_so_that_the_mean_stays():
    model, rate, count = tower(layers=2).train(), 0.25, 4000
    # only the last of two layers drops, so its attention sees the same input with and without
    plain = branches(model, count)["attention"]
    add_drop_path(model, rate)
    torch.manual_seed(0)
    dropped = branches(model, count)["attention"]
    gone = dropped.abs().amax((1, 2)) == 0
    assert abs(float(gone.float().mean()) - rate) < 0.03
    torch.testing.assert_close(dropped[~gone], plain[~gone] / (1 - rate))


def test_the_chance_grows_over_the_layers():
    model, count = tower(layers=3).train(), 4000
    add_drop_path(model, 0.4)
    shares = []
    for layer in model.encoder.layer:
        for branch in (layer.attention, layer.mlp):
            branch.register_forward_hook(
                lambda module, inputs, out: shares.append(
                    float(((out[0] if isinstance(out, tuple) else out).abs().amax((1, 2)) == 0).float().mean())
                )
            )
    torch.manual_seed(0)
    output(model, count)
    for share, expected in zip(shares, [0.0, 0.0, 0.2, 0.2, 0.4, 0.4], strict=True):
        assert abs(share - expected) < 0.03


def test_gradients_flow_through_what_is_kept():
    model = tower().train()
    add_drop_path(model, 0.3)
    model(images(16)).last_hidden_state.square().sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "mask_token" not in name)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match=rf"drop_path is {rate}"):
        add_drop_path(tower(), rate)
