"""`sipbridge config`: what is in force and where it comes from, and what may be written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sipbridge.commands.common import DEFAULT_CONFIG, ConfigPath, put
from sipbridge.errors import ConfigError

if TYPE_CHECKING:
    from sipbridge.config import Config

app = typer.Typer(help="Show the configuration, and what it may contain.", no_args_is_help=True)


@app.command()
def show(
    config: ConfigPath = DEFAULT_CONFIG,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant's file, by its id.")] = None,
) -> None:
    """Print what is in force as YAML, each value with where it is from: a line of a file, a variable of the
    environment, or the default. Of secrets it is shown where they come from."""
    from sipbridge.config import Config, load_config
    from sipbridge.config_shown import shown
    from sipbridge.configfile import parse_with_lines, text_of
    from sipbridge.overrides import of_environment

    if tenant is not None:
        put(_tenant(load_config(config), config, tenant).splitlines())
        return
    overrides = of_environment(os.environ)
    section, lines = parse_with_lines(
        text_of(config), Config, str(config), directory=config.parent, overrides=overrides
    )
    put(shown(section, str(config), lines).splitlines())


def _tenant(config: Config, path: Path, tenant: str) -> str:
    from sipbridge.config_shown import shown
    from sipbridge.configfile import parse_with_lines, text_of
    from sipbridge.tenant_config import TenantConfig
    from sipbridge.tenant_source.files import tenant_files

    directory = path.parent / config.tenants.directory
    files = {file.stem: file for file in tenant_files(directory)} if directory.is_dir() else {}
    if tenant not in files:
        raise ConfigError(f"no tenant is called {tenant!r}; there are {', '.join(files) or 'none'} in {directory}")
    file = files[tenant]
    section, lines = parse_with_lines(text_of(file), TenantConfig, str(file), directory=directory)
    return shown(section, str(file), lines)


@app.command()
def schema(tenant: Annotated[bool, typer.Option(help="Of a tenant's file.")] = False) -> None:
    """Print the JSON Schema, for editors."""
    from sipbridge.config_schema import FILES, schema_of

    put([json.dumps(schema_of(FILES["tenant.json" if tenant else "sipbridge.json"]), indent=2)])
