use super::tensors::of;
use super::*;

fn family(list: &[(&str, &[usize])]) -> (String, String) {
    let identity = identify_tensors(&of(list));
    (identity.family, identity.called)
}

#[test]
fn a_model_that_is_known_by_one_tensor_is_named() {
    for (name, shape, wanted) in [
        (
            "down_blocks.0.motion_modules.0.temporal_transformer.norm.bias",
            &[1][..],
            "animatediff",
        ),
        (
            "double_stream_modulation_img.lin.weight",
            &[6144, 6144],
            "flux2",
        ),
        (
            "distilled_guidance_layer.in_proj.weight",
            &[5120, 64],
            "chroma",
        ),
        (
            "model.diffusion_model.joint_blocks.23.x_block.mlp.fc1.weight",
            &[6144, 1536],
            "sd3-medium",
        ),
        (
            "transformer_blocks.0.img_mod.1.weight",
            &[18432, 3072],
            "qwen-image",
        ),
        ("patchify_proj.weight", &[2048, 128], "ltx-video"),
        ("concept_embeds", &[17, 768], "safety-checker"),
        (
            "decoder.middle.0.residual.0.gamma",
            &[384, 1, 1, 1],
            "wan-vae",
        ),
        ("effnet_mapper.0.weight", &[64, 16, 1, 1], "stable-cascade"),
        ("task_embedding", &[6, 320], "sdxl-controlnet-union"),
        ("double_layers.0.attn.w1q.weight", &[3072, 3072], "auraflow"),
        (
            "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
            &[16, 3072],
            "flux",
        ),
        (
            "transformer.transformer_blocks.0.img_mlp.net.0.proj.lora_A.weight",
            &[16, 3072],
            "qwen-image",
        ),
        (
            "diffusion_model.blocks.0.cross_attn.k.lora_A.weight",
            &[16, 5120],
            "wan",
        ),
        (
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
            &[16, 320],
            "sd2",
        ),
        (
            "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
            &[16, 320, 1, 1],
            "sd1",
        ),
        ("unknown.weight", &[5], "unknown"),
    ] {
        assert_eq!(family(&[(name, shape)]).0, wanted, "{name}");
    }
}
