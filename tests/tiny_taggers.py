"""Tiny taggers with random weights, in the formats of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

CHARACTERS = ("hatsune_miku", "saber_(fate)")
GENERAL = ("1girl", "long_hair", "^_^", "(o)_(o)", "red_eyes", "hat", "night_sky", "simple_background", "o_o", "smile")
RATINGS = ("general", "sensitive", "questionable", "explicit")


def make_wd(
    folder: Path,
    *,
    general: Sequence[str] = GENERAL,
    batch: int | str = "batch",
    outputs: int | None = None,
    last: str = "Sigmoid",
) -> Path:
    """A graph as WD taggers have it: pictures in BGR, a convolution, a mean, a confidence per line of the table."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    rng = np.random.default_rng(1)
    names = [*((name, 9) for name in RATINGS), *((name, 0) for name in general), *((name, 4) for name in CHARACTERS)]
    count = outputs or len(names)
    weights = {
        "kernel": rng.normal(0, 0.05 / 255, (16, 3, 16, 16)),
        "matrix": rng.normal(0, 2, (16, count)),
        "offset": rng.normal(0, 0.5, (count,)),
    }
    nodes = [
        helper.make_node("Transpose", ["pictures"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels", "kernel"], ["strokes"], strides=[16, 16]),
        helper.make_node("Relu", ["strokes"], ["edges"]),
        helper.make_node("GlobalAveragePool", ["edges"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["features"]),
        helper.make_node("Gemm", ["features", "matrix", "offset"], ["logits"]),
        helper.make_node(last, ["logits"], ["confidences"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny_wd",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, [batch, 448, 448, 3])],
        [helper.make_tensor_value_info("confidences", TensorProto.FLOAT, [batch, count])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    folder.mkdir(parents=True)
    save(model, folder / "model.onnx")
    rows = [f"{number},{name},{category},{1000 - number}" for number, (name, category) in enumerate(names)]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows]) + "\n")
    return folder


def make_blip(folder: Path) -> Path:
    """A BLIP of random weights that knows a handful of words."""
    import torch
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder.mkdir(parents=True)
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[DEC]",
        "[ENC]",
        *"a doll in red blue hat at the sea with and".split(),
    ]
    (folder / "words.txt").write_text("\n".join(words))
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={
            **small,
            **{
                "vocab_size": len(words),
                "encoder_hidden_size": 16,
                "max_position_embeddings": 64,
                "projection_dim": 16,
            },
            **{"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0},
        },
        vision_config={**small, "image_size": 32, "patch_size": 16, "projection_dim": 16},
        projection_dim=16,
    )
    torch.manual_seed(3)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab_file=str(folder / "words.txt"))
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder
