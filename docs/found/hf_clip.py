"""transformers 4.57.6: CLIP: two towers, quick GELU, pooling at the end of text, linen beside PyTorch."""
import numpy as np
import parity
from transformers import CLIPConfig, CLIPModel, FlaxCLIPModel
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = CLIPConfig(text_config=dict(vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                                         max_position_embeddings=12, eos_token_id=96, bos_token_id=1),
                        vision_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8),
                        projection_dim=24)
    torch_model, flax_model = CLIPModel(config), FlaxCLIPModel(config)
    ids, mask = np.random.default_rng(0).integers(3, 96, (3, 12)), (np.arange(12) < [[12], [9], [5]]).astype(np.int64)
    ids[np.arange(3), [11, 8, 4]] = 96
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    inputs = dict(input_ids=ids, pixel_values=images, attention_mask=mask, position_ids=np.arange(12) + 0 * ids)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: (lambda o: (o.logits_per_image, o.text_embeds, o.image_embeds))(m(**x)),
                       flax_call=lambda m, train, **x: (lambda o: (o.logits_per_image, o.text_embeds, o.image_embeds))(m(**x, deterministic=not train)))
