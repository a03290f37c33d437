"""Weights into ONNX graphs that ONNX Runtime executes quickly on a CPU: a Llama decoder with its cache, a BERT encoder.

Knows shapes and operators, nothing about tokens or prompts. float32 throughout, so that greedy text equals that of
transformers; the fused operators are ONNX Runtime's own (com.microsoft).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.weights import Weights

MICROSOFT = "com.microsoft"
STEPS = 63  # of a weight on either side of 0
MAX_POSITIONS = 2048  # of the rotary tables; longer prompts are refused by the generator


@dataclass(frozen=True, slots=True)
class Graph:
    """An ONNX model whose large weights stay in memory beside it: no copy through a file."""

    model: bytes
    weights: Weights

    def session(self, threads: int) -> Any:
        """An ONNX Runtime session on the CPU; the graph's arrays may be dropped afterwards."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self.weights.values()]
        options.add_external_initializers(list(self.weights), values)
        return onnxruntime.InferenceSession(self.model, options, ["CPUExecutionProvider"])


class _Graph:
    """Collects nodes and weights; each method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.declared: list[onnx.TensorProto] = []
        self.weights: Weights = {}

    def weight(self, name: str, array: np.ndarray) -> str:
        if array.size < 1024:  # small ones stand in the model itself
            self.declared.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
            return name
        tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.external_data.add(key="location", value="memory")
        self.declared.append(tensor)
        self.weights[name] = np.ascontiguousarray(array)
        return name

    def node(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"{op}/{outputs[0]}", domain=domain, **attributes))
        return outputs[0]

    def linear(self, x: str, weight: np.ndarray, out: str) -> str:
        return self.node("MatMul", [x, self.weight(f"{out}.weight", weight.T)], [out])

    def whole(self, x: str, weight: np.ndarray, bias: np.ndarray, out: str) -> str:
        """x @ weight.T + bias with weights of 7 bits, a scale for each output, and x of 8 bits, quantised as it comes.

        Not 8 bits: products of pairs are added in 16 on processors without VNNI, and overflow there.
        """
        scale = np.maximum(np.abs(weight).max(1), 1e-12).astype(np.float32) / STEPS
        rounded = np.round(weight / scale[:, None]).astype(np.int8)
        given = [x, self.weight(f"{out}.weight", rounded.T), self.weight(f"{out}.scale", scale), "",
                 self.weight(f"{out}.bias", bias)]
        return self.node("DynamicQuantizeMatMul", given, [out], MICROSOFT)

    def model(self, inputs: list[Any], outputs: list[Any]) -> Graph:
        graph = helper.make_graph(self.nodes, "graph", inputs, outputs, self.declared)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
        made = helper.make_model(graph, opset_imports=opsets)
        made.ir_version = 10
        return Graph(made.SerializeToString(), self.weights)


def can_decode(config: dict[str, Any]) -> bool:
    """Whether `llama` below covers a Hugging Face config."""
    return (config.get("model_type") == "llama" and config.get("hidden_act") == "silu"
            and not config.get("attention_bias") and not config.get("mlp_bias")
            and (config.get("rope_parameters") or {}).get("rope_type", "default") == "default")


def llama(weights: Weights, config: dict[str, Any]) -> Graph:
    """A decoder step. Takes the arrays out of `weights` as it goes, so that no more than one copy is held.

    Inputs: input_ids int64 [1, T]; last int32 [1] = past + T - 1; total int32 [] = past + T;
    past_key.i, past_value.i float32 [1, kv_heads, capacity, head_dim] (updated in place when bound as output too).
    Outputs: logits float32 [1, 1, vocab] of the last position, key.i, value.i.
    """
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    epsilon, layers = config["rms_norm_eps"], config["num_hidden_layers"]
    g = _Graph()
    embedding = weights.pop("model.embed_tokens.weight")
    x = g.node("Gather", [g.weight("embedding", embedding), "input_ids"], ["embedded"])
    theta = (config.get("rope_parameters") or config).get("rope_theta", 10000.0)
    angles = np.outer(np.arange(MAX_POSITIONS), 1.0 / theta ** (np.arange(0, size, 2) / size))
    g.weight("cos", np.cos(angles).astype(np.float32))
    g.weight("sin", np.sin(angles).astype(np.float32))
    normed = g.node("SimplifiedLayerNormalization",
                    [x, g.weight("norm.first", weights.pop("model.layers.0.input_layernorm.weight"))],
                    ["normed.0"], axis=-1, epsilon=epsilon)

    def add_norm(x: str, branch: str, weight: str, name: str) -> tuple[str, str]:
        """x + branch, and its norm, in one operator."""
        g.node("SkipSimplifiedLayerNormalization", [x, branch, g.weight(f"{name}.norm", weights.pop(weight))],
               [f"{name}.normed", "", "", f"{name}.sum"], MICROSOFT, epsilon=epsilon)
        return f"{name}.sum", f"{name}.normed"

    for i in range(layers):
        layer = f"model.layers.{i}."
        qkv = np.concatenate([weights.pop(f"{layer}self_attn.{part}_proj.weight") for part in "qkv"])
        packed = g.linear(normed, qkv, f"qkv.{i}")
        attended = g.node("GroupQueryAttention",
                          [packed, "", "", f"past_key.{i}", f"past_value.{i}", "last", "total", "cos", "sin"],
                          [f"attended.{i}", f"key.{i}", f"value.{i}"], MICROSOFT,
                          num_heads=heads, kv_num_heads=kv_heads, do_rotary=1, rotary_interleaved=0)
        out = g.linear(attended, weights.pop(f"{layer}self_attn.o_proj.weight"), f"out.{i}")
        x, normed = add_norm(x, out, f"{layer}post_attention_layernorm.weight", f"attention.{i}")
        gate = g.linear(normed, weights.pop(f"{layer}mlp.gate_proj.weight"), f"gate.{i}")
        up = g.linear(normed, weights.pop(f"{layer}mlp.up_proj.weight"), f"up.{i}")
        silu = g.node("QuickGelu", [gate], [f"silu.{i}"], MICROSOFT, alpha=1.0)  # alpha 1 is SiLU
        product = g.node("Mul", [silu, up], [f"product.{i}"])
        down = g.linear(product, weights.pop(f"{layer}mlp.down_proj.weight"), f"down.{i}")
        following = f"model.layers.{i + 1}.input_layernorm.weight" if i + 1 < layers else "model.norm.weight"
        x, normed = add_norm(x, down, following, f"mlp.{i}")

    final = g.node("Gather", [normed, g.weight("minus_one", np.array([-1], dtype=np.int64))], ["final"], axis=1)
    g.linear(final, weights.pop("lm_head.weight", embedding), "logits")
    value = helper.make_tensor_value_info
    cache = [(kind, i) for i in range(layers) for kind in ("key", "value")]
    inputs = [value("input_ids", TensorProto.INT64, [1, "T"]), value("last", TensorProto.INT32, [1]),
              value("total", TensorProto.INT32, [])]
    inputs += [value(f"past_{kind}.{i}", TensorProto.FLOAT, [1, kv_heads, "P", size]) for kind, i in cache]
    outputs = [value("logits", TensorProto.FLOAT, [1, 1, config["vocab_size"]])]
    outputs += [value(f"{kind}.{i}", TensorProto.FLOAT, [1, kv_heads, "Q", size]) for kind, i in cache]
    return g.model(inputs, outputs)


def bert(weights: Weights, config: dict[str, Any], int8: bool = False) -> Graph:
    """An encoder.

    Inputs: input_ids int64 [B, T]; mask int32 [B, T], 1 for real tokens. Output: pooled float32 [B, hidden],
    the mean over real tokens (not normalised). int8: the dense layers' products are of whole numbers, see `_Graph.whole`.
    """
    epsilon, heads = config["layer_norm_eps"], config["num_attention_heads"]
    g = _Graph()
    value = helper.make_tensor_value_info
    words = g.node("Gather", [g.weight("words", weights["embeddings.word_embeddings.weight"]), "input_ids"], ["word"])
    shape = g.node("Shape", ["input_ids"], ["length"], start=1, end=2)
    first = g.weight("first", np.array([0], dtype=np.int64))
    table = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    places = g.node("Slice", [g.weight("places", table), first, shape], ["place"])
    x = g.node("LayerNormalization", [g.node("Add", [words, places], ["embedded"]),
               g.weight("ln.weight", weights["embeddings.LayerNorm.weight"]),
               g.weight("ln.bias", weights["embeddings.LayerNorm.bias"])], ["x"], axis=-1, epsilon=epsilon)

    def dense(x: str, name: str, out: str) -> str:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if int8:
            return g.whole(x, weight, bias, out)
        product = g.linear(x, weight, f"{out}.product")
        return g.node("Add", [product, g.weight(f"{out}.bias", bias)], [out])

    def add_norm(x: str, branch: str, name: str, out: str) -> str:
        parts = [g.weight(f"{out}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return g.node("SkipLayerNormalization", [x, branch, *parts], [out], MICROSOFT, epsilon=epsilon)

    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        parts = [f"{layer}attention.self.{part}" for part in ("query", "key", "value")]
        qkv = np.concatenate([weights[f"{part}.weight"] for part in parts])
        bias = np.concatenate([weights[f"{part}.bias"] for part in parts])
        if int8:
            three = [f"{part}.{i}" for part in ("query", "key", "value")]
            g.nodes.append(helper.make_node("Split", [g.whole(x, qkv, bias, f"qkv.{i}")], three, axis=-1, num_outputs=3))
            attended = g.node("MultiHeadAttention", [*three, "", "mask"], [f"attended.{i}"], MICROSOFT, num_heads=heads)
        else:
            packed = [g.weight(f"qkv.{i}", qkv.T), g.weight(f"qkv.bias.{i}", bias)]
            attended = g.node("Attention", [x, *packed, "mask"], [f"attended.{i}"], MICROSOFT, num_heads=heads)
        x = add_norm(x, dense(attended, f"{layer}attention.output.dense", f"out.{i}"),
                     f"{layer}attention.output.LayerNorm", f"attention.{i}")
        wide = g.node("Gelu", [dense(x, f"{layer}intermediate.dense", f"wide.{i}")], [f"gelu.{i}"], MICROSOFT)
        x = add_norm(x, dense(wide, f"{layer}output.dense", f"narrow.{i}"), f"{layer}output.LayerNorm", f"layer.{i}")

    real = g.node("Cast", ["mask"], ["real"], to=TensorProto.FLOAT)
    column = g.node("Unsqueeze", [real, g.weight("two", np.array([2], dtype=np.int64))], ["column"])
    axis = g.weight("one", np.array([1], dtype=np.int64))
    total = g.node("ReduceSum", [g.node("Mul", [x, column], ["masked"]), axis], ["total"], keepdims=0)
    g.node("Div", [total, g.node("ReduceSum", [column, axis], ["count"], keepdims=0)], ["pooled"])
    inputs = [value("input_ids", TensorProto.INT64, ["B", "T"]), value("mask", TensorProto.INT32, ["B", "T"])]
    return g.model(inputs, [value("pooled", TensorProto.FLOAT, ["B", config["hidden_size"]])])
