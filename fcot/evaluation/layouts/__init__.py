"""Read benchmarks as people have them: official downloads, InternVL's layout, parquet, VLMEvalKit's TSV."""
