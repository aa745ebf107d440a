from tiny_judgement import adapter, build_probes, context, perturb, plan, recipe

__all__ = ["adapter", "build_probes", "context", "perturb", "plan", "recipe"]
