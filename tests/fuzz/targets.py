"""All fuzz targets by name."""

from __future__ import annotations

from tests.fuzz.conversation import CONVERSATION_TARGETS
from tests.fuzz.media_targets import MEDIA_TARGETS
from tests.fuzz.provider_targets import PROVIDER_TARGETS
from tests.fuzz.service_targets import SERVICE_TARGETS
from tests.fuzz.sip_targets import SIP_TARGETS
from tests.fuzz.sound_targets import SOUND_TARGETS
from tests.fuzz.transfer_targets import TRANSFER_TARGETS

TARGETS = {
    target.name: target
    for target in (
        *SIP_TARGETS,
        *SERVICE_TARGETS,
        *MEDIA_TARGETS,
        *SOUND_TARGETS,
        *TRANSFER_TARGETS,
        *CONVERSATION_TARGETS,
        *PROVIDER_TARGETS,
    )
}
