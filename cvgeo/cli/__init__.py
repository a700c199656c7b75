"""The command line: thin files that parse, call one pipeline and show. Nothing heavy is imported at their tops."""
