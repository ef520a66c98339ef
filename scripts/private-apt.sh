# Prepare apt to work in FOLDER on an empty package database of its own. Afterwards `apt-get -c FOLDER/apt.conf` updates,
# resolves and downloads there; root is not needed. To be sourced.
#
#   private_apt FOLDER                     with the machine's sources
#   private_apt FOLDER MIRROR SUITE        with that suite of that mirror alone
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
Acquire::Languages "none";
# The hooks of the machine's own apt are about the machine's own packages.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
END
    [[ $# == 3 ]] || return 0
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg options=
    if [[ -f $keys ]]; then options="[signed-by=$keys] "; fi
    echo "deb $options$2 $3 main" >"$1/sources.list"
    cat >>"$1/apt.conf" <<END
Dir::Etc::sourcelist "$1/sources.list";
Dir::Etc::sourceparts "/dev/null";
END
}
