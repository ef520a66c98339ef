"""Where tenants come from: a directory of YAML, or an HTTP backend."""
