//! Keys of `config.json` that change nothing about training: they are accepted with any value, and kept.

/// Attributes of transformers' configurations that no forward or backward pass depends on, in any release that
/// `make compat` looks at. `tests/compat/keys.py` finds them, and `make compat` holds this table against it.
pub const TRANSFORMERS: [&str; 49] = [
    "_attn_implementation_autoset",
    "_name_or_path",
    "add_cross_attention",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// Keys of other programs and of older releases, which no release of transformers reads in a forward pass, and two that it
/// reads for something other than training: `return_dict` for the type of what it returns, `pad_token_id` for a token that no
/// corpus has.
pub const OTHERS: [&str; 16] = [
    "_attn_implementation",
    "_flash_attn_2_enabled",
    "activation",
    "attn_implementation",
    "is_llama_config",
    "max_new_tokens",
    "max_seq_len",
    "max_seq_length",
    "max_sequence_length",
    "model_max_length",
    "pad_token_id",
    "return_dict",
    "seq_length",
    "transformers.js_config",
    "unk_token_id",
    "unsloth_version",
];

/// Whether a key changes nothing: one of the tables, a private attribute of transformers (`_…`), or the bookkeeping of another
/// program (`transformers.js_…`, `unsloth_…`, `…_version`).
pub(super) fn is_harmless(key: &str) -> bool {
    TRANSFORMERS.contains(&key)
        || OTHERS.contains(&key)
        || ["_", "transformers.js_", "unsloth_"].iter().any(|prefix| key.starts_with(prefix))
        || key.ends_with("_version")
}
