"""Plain settings, strict readers of YAML and JSON, the expression language, and plug-ins."""
