from tiny_judgement import adapter, base, build_probes, context, perturb, plan, recipe

__all__ = ["adapter", "base", "build_probes", "context", "perturb", "plan", "recipe"]
