"""The parts of a tenant's file, `tenants/ID.yaml`, as pydantic models; `tenant_config.TenantConfig` is all of it."""
