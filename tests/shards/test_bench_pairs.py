from shards.bench_pairs import noted, streamed


def test_pairs_and_conversations_are_streamed_whole_and_compared(tmp_path):
    found = streamed(tmp_path, 40, 1)  # each pass must give all 40
    assert found["samples"] == 40
    assert found["rate"]["median"] > 0
    assert noted(found).startswith("40 plain pairs at ")
