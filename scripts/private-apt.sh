# Prepare apt to work in FOLDER on an empty package database of its own, with the machine's sources. Afterwards
# `apt-get -c FOLDER/apt.conf` updates, resolves and downloads there; root is not needed. To be sourced.
#
#   private_apt FOLDER
private_apt() {
    mkdir -p "$1"/{state/lists/partial,cache/archives/partial}
    : >"$1/state/status"
    cat >"$1/apt.conf" <<END
Dir::State "$1/state";
Dir::State::status "$1/state/status";
Dir::Cache "$1/cache";
Dir::Log "$1";
APT::Sandbox::User "";
APT::Get::Assume-Yes "true";
APT::Install-Recommends "false";
Acquire::Retries "3";
# The hooks of the machine's own apt are about the machine's own packages.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
END
}
