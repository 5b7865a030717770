"""Notifications through Apprise: chats, mail, pagers, webhooks.

A separate program of ours sends them (``sender``), so that a connection that hangs, a name server that never responds
or a library that fails can neither stop nor delay a run. ``Messenger`` controls it.
"""

from lastgood.notifications.address import Address, Delivery, Message, NoAddress, address_of
from lastgood.notifications.listing import TargetList, check_targets
from lastgood.notifications.messenger import Messenger

__all__ = ["Address", "Delivery", "Message", "Messenger", "NoAddress", "TargetList", "address_of", "check_targets"]
