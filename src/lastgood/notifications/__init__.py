"""Telling people elsewhere, through Apprise: chats, mail, pagers, webhooks.

A program of ours beside us does the telling (``sender``), so that an address that hangs, a name server that never
answers or a library that fails can neither stop nor delay a run. ``Messenger`` is this side of it.
"""

from lastgood.notifications.address import Address, NoAddress, address_of
from lastgood.notifications.listing import Listing, look
from lastgood.notifications.message import Delivery, Message
from lastgood.notifications.messenger import Messenger

__all__ = ["Address", "Delivery", "Listing", "Message", "Messenger", "NoAddress", "address_of", "look"]
