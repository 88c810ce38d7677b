import pytest
import torch
from torch.nn import functional

from fcot.bench.flops import counting

HEADS, WIDTH = 4, 16


def attend(queries, keys, *, causal=False, key_heads=HEADS, backward=False):
    """FLOPs of attention on the meta device, over those of one product of a query's and a key's head."""
    query = torch.empty(1, HEADS, queries, WIDTH, device="meta", requires_grad=True)
    key, value = torch.empty(2, 1, key_heads, keys, WIDTH, device="meta", requires_grad=True).unbind()
    with counting() as flops:
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=causal, enable_gqa=key_heads != HEADS
        )
        assert out.shape == query.shape
        if backward:
            start = flops()
            out.sum().backward()
            assert query.grad.shape == query.shape
            return (flops() - start) / (2 * HEADS * WIDTH)
        return flops() / (2 * HEADS * WIDTH)


@pytest.mark.parametrize("key_heads", [HEADS, 2])
def test_attention_is_counted_as_the_fused_kernel_computes_it(key_heads):
    assert attend(10, 10, key_heads=key_heads) == 2 * 100
    assert attend(1, 10, key_heads=key_heads) == 2 * 10
    assert attend(10, 10, causal=True, key_heads=key_heads) == 2 * 55  # no masked pair
    assert attend(10, 10, causal=True, key_heads=key_heads, backward=True) == 5 * 55  # scores are computed again


def test_products_inside_an_autograd_function_are_counted():
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, left, right):
            return functional.linear(left, right)

        @staticmethod
        def backward(ctx, grad):
            return grad, None

    left, right = torch.empty(2, 3, 3, device="meta", requires_grad=True).unbind()
    with counting() as flops:
        Product.apply(left, right)
        assert flops() == 2 * 27
